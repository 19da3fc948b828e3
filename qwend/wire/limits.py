"""Every number of the protocol that bounds memory, time or a value.

Rule 1: both sides and docs/protocol.md take their limits from here; none is written twice.
Rule 2: this file does not know what happens when a limit is passed.
"""

from __future__ import annotations

from typing import Final

PROTOCOL: Final = "qwend/1"

# --- frames -----------------------------------------------------------------------------------

LENGTH_BYTES: Final = 4
"""The length header: unsigned, 32 bits, big-endian; it counts the payload only."""

HELLO_FRAME_BYTES: Final = 16 * 1024
"""Before the hello is accepted, a stranger may make us hold this much (h11 allows the same 16 KiB
for a request line and its headers)."""

FRAME_BYTES: Final = 1024 * 1024
"""Room for 131,072 token ids of 5 bytes, or for a text beyond any context of a small model."""

# --- what one frame may unpack to -------------------------------------------------------------
# Measured on CPython 3.11, November 2026: a 1 MiB frame of empty lists becomes 73 MB of objects.
# With the five bounds below the worst frame found stays under 8 MiB (tests/wire/test_scan.py).

CONTAINERS: Final = 10_000
"""Maps and arrays, the outermost map included: a conversation of about 9,990 messages."""

DEPTH: Final = 32
"""Maps and arrays inside one another, the outermost map being 1. The deepest message needs 3."""

ARRAY_ENTRIES: Final = 131_072
"""The longest context any Qwen2.5 model was trained for, so that a prompt of ids always fits."""

MAP_ENTRIES: Final = 1_024
"""As many as `logit_bias` may have; no other map comes near it."""

VALUES: Final = ARRAY_ENTRIES + 4_096
"""Keys and values of all containers together: one array of full length and a full message."""

STRINGS: Final = 65_536
"""Keys included. 10,000 chat messages have 40,000; a string costs the most memory per byte sent."""

# --- fields -----------------------------------------------------------------------------------

ID_MAX: Final = 2**53 - 1
"""Request ids and nonces: the integers that JavaScript and Lua numbers hold exactly."""

COUNT_MAX: Final = 2**31 - 1
"""Token counts, token ids and credits: llama.cpp counts with int32."""

SEED_MAX: Final = 2**32 - 1
"""llama.cpp takes a uint32 seed."""

TEMPERATURE_MAX: Final = 100.0
REPEAT_PENALTY_MIN: Final = 0.01
REPEAT_PENALTY_MAX: Final = 100.0
REPEAT_LAST_N_MAX: Final = 8_192
LOGIT_BIAS_ABS_MAX: Final = 1e4
LOGIT_BIAS_ENTRIES: Final = 1_024
STOP_STRINGS: Final = 16
STOP_BYTES: Final = 256
DEADLINE_MAX_S: Final = 86_400.0
"""One day: a deadline beyond it is a mistake of units."""

NAME_CHARS: Final = 256
"""Names that people read: `client`, `server`, `model`, one capability."""

MODEL_CHARS: Final = 4_096
"""Of a model that is to be loaded: PATH_MAX of linux/limits.h, for it may be a path."""

CAPABILITIES: Final = 64

# --- sessions ---------------------------------------------------------------------------------

SESSION_NAME_CHARS: Final = 64

SESSION_BYTES: Final = FRAME_BYTES - 64 * 1024
"""Of one session: more than the context of a small model holds, and any one message of it goes into
a frame."""

SESSION_MESSAGE_BYTES: Final = 64
"""What a message counts as besides its text, so that a million empty ones are not free."""

SESSION_PAGE_ENTRIES: Final = 2_000
SESSION_PAGE_BYTES: Final = 512 * 1024
"""What one answer about sessions has at most, unless a single message is longer. An entry takes
150 bytes and less than eight strings besides its text."""
