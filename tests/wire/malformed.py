"""29 kinds of malformed or odd input, each drawn from a seeded generator: row A1 of the catalogue.

Rule 1: what `SURVIVED` makes is one or more whole frames of one map each, so that the connection
goes on; after what `BREAKING` makes, nothing more can be read.
Rule 2: this file does not know what the answer is, only that there must be one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import msgpack

from qwend.wire import limits
from tests.wire.vectors import Vector, vectors

Kind = Callable[[Random], bytes]

ORDERS = {"load", "unload", "pull", "drain", "reload"}
"""What an administrator, as which tests may run, tells the daemon: it would do it."""
VALID = [one for one in vectors() if one.from_client and one.fields["op"] not in ORDERS]
SAID_BY_DAEMONS = [vector for vector in vectors() if not vector.from_client]
REQUESTS = [vector for vector in VALID if "id" in vector.fields]
ODD_NUMBERS = (math.nan, math.inf, -math.inf, -0.0, 1e308, 2**63, 2**64 - 1, -(2**63), 0.1)
WRONG_TYPES: tuple[Any, ...] = (None, True, 0, 0.5, "", "x", b"x", [], [[]], {}, {"a": 1})


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(limits.LENGTH_BYTES, "big") + payload


def packed(fields: Mapping[Any, Any]) -> bytes:
    return framed(msgpack.packb(dict(fields)))


def _with(chance: Random, values: tuple[Any, ...]) -> bytes:
    """A valid message of which one field has one of these values."""
    fields = dict(_any(chance).fields)
    fields[chance.choice([key for key in fields if key != "op"] or ["op"])] = chance.choice(values)
    return packed(fields)


def _any(chance: Random) -> Vector:
    return chance.choice(VALID)


def _payload(chance: Random) -> bytes:
    return _any(chance).frame[limits.LENGTH_BYTES :]


def _text_field(raw: bytes) -> bytes:
    """A ping whose client's name is these bytes, as a text."""
    return framed(b"\x82\xa2op\xa4ping\xa1x" + bytes([0xA0 + len(raw)]) + raw)


def _missing_key(chance: Random) -> bytes:
    fields = dict(_any(chance).fields)
    del fields[chance.choice(list(fields))]
    return packed(fields)


def _extra_key(chance: Random) -> bytes:
    return packed({**_any(chance).fields, chance.choice(("x", "n", "maxtokens", "id ", 7)): 1})


def _negative_count(chance: Random) -> bytes:
    fields = dict(chance.choice(REQUESTS).fields)
    name = chance.choice(("id", "max_tokens", "top_k", "seed", "credit", "tokens", "repeat_last_n"))
    return packed({**fields, name: -chance.choice((1, 2, 2**31, 2**63))})


def _unknown_op(chance: Random) -> bytes:
    op = "".join(chance.choices("abcdefgh", k=chance.randrange(9)))
    return packed({"op": op, "id": chance.randrange(9)})


def _wrong_state(chance: Random) -> bytes:
    return chance.choice(SAID_BY_DAEMONS).frame


def _truncated(chance: Random) -> bytes:
    """A prefix of a valid payload under a length that says so."""
    payload = _payload(chance)
    return framed(payload[: chance.randrange(1, len(payload))])


def _cut(chance: Random) -> bytes:
    """A prefix of a valid frame, and then the end."""
    frame = _any(chance).frame
    return frame[: chance.randrange(1, len(frame))]


def _wrong_length(by: int) -> Kind:
    def make(chance: Random) -> bytes:
        payload = _payload(chance)
        return (len(payload) + by).to_bytes(limits.LENGTH_BYTES, "big") + payload

    return make


def _flipped(chance: Random) -> bytes:
    frame = bytearray(_any(chance).frame)
    for _ in range(chance.randint(1, 8)):
        frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
    return bytes(frame)


def _spliced(chance: Random) -> bytes:
    one, other = _payload(chance), _payload(chance)
    return framed(one[: chance.randint(1, len(one))] + other[chance.randrange(len(other)) :])


def _inside(raw: bytes) -> bytes:
    """A map whose one value is these bytes."""
    return framed(b"\x81\xa1x" + raw)


SURVIVED: Mapping[str, Kind] = {
    "a key that is missing": _missing_key,
    "a key that is none": _extra_key,
    "a field of a wrong type": lambda chance: _with(chance, WRONG_TYPES),
    "a number that is none, or huge": lambda chance: _with(chance, ODD_NUMBERS),
    "a count below zero": _negative_count,
    "bytes in place of text": lambda chance: _with(chance, (b"", b"hello", b"\xff\xfe")),
    "NUL in a text": lambda chance: _with(chance, ("\0", "a\0b")),
    "an op that is none": _unknown_op,
    "an op of the other side": _wrong_state,
    "a second hello": lambda chance: packed({"op": "hello", "protocol": "qwend/1"}),
    "many frames in one write": lambda chance: packed({"op": "ping"}) * 1_000,
    "two valid frames": lambda chance: _any(chance).frame + packed({"op": "ping", "nonce": 1}),
}
BREAKING: Mapping[str, Kind] = {
    "length 0": lambda chance: framed(b""),
    "one byte": lambda chance: framed(chance.randbytes(1)),
    "length 2^31": lambda chance: (2**31).to_bytes(4, "big") + _payload(chance),
    "length 2^32-1": lambda chance: b"\xff" * 4 + _payload(chance),
    "length one too many": _wrong_length(1),
    "length one too few": _wrong_length(-1),
    "the byte that is never used": lambda chance: _inside(b"\xc1"),
    "a truncated payload": _truncated,
    "a frame cut short": _cut,
    "no map": lambda chance: framed(msgpack.packb(chance.choice((None, 1, "op", [], [1], 0.5)))),
    "a key twice": lambda chance: framed(b"\x82\xa2op\xa4ping\xa2op\xa4ping"),
    "a text that is not UTF-8": lambda chance: _text_field(
        chance.choice((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"))
    ),
    "an extension": lambda chance: framed(
        msgpack.packb({"op": "ping", "nonce": msgpack.ExtType(chance.randrange(128), b"x")})
    ),
    "a time": lambda chance: packed({"op": "ping", "nonce": msgpack.Timestamp(1, 0)}),
    "bytes behind the map": lambda chance: framed(_payload(chance) + chance.randbytes(3)),
    "flipped bits": _flipped,
    "a splice of two": _spliced,
}

NONCE = 2**40
"""Of the ping between what is survived and what breaks."""
HELLO = packed({"op": "hello", "protocol": limits.PROTOCOL})
SURVIVED_MOST = 12
"""Frames of a connection before the one that breaks it: the more, the fewer connections."""
WEIGHTS = [0.02 if kind == "many frames in one write" else 1.0 for kind in SURVIVED]
"""A thousand frames take as long as a thousand others."""
UNGREETED = 0.1
"""Share of the connections that leave the hello out."""


@dataclass(frozen=True, slots=True)
class Attack:
    """All that one connection sends: some frames that it survives, a ping, and one that it may not.

    kinds: what was malformed, in order; the last is of BREAKING.
    """

    kinds: tuple[str, ...]
    greeted: bool
    sent: bytes


def attack(chance: Random) -> Attack:
    kinds = chance.choices(list(SURVIVED), WEIGHTS, k=chance.randrange(SURVIVED_MOST))
    last = chance.choice(list(BREAKING))
    greeted = chance.random() >= UNGREETED
    survived = b"".join(SURVIVED[kind](chance) for kind in kinds)
    ping = packed({"op": "ping", "nonce": NONCE})
    sent = (HELLO if greeted else b"") + survived + ping + BREAKING[last](chance)
    return Attack((*kinds, last), greeted, sent)
