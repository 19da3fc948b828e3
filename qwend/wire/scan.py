"""The look at a payload's type bytes before any object is built from it.

Rule 1: what passes here costs bounded memory, depth and time to unpack.
Rule 2: this file does not know what a message is; it builds nothing and decodes no text.

Why not count in msgpack's hooks: a hook runs when a container is complete, but the unpacker
reserves an array's full length at its header, so 1,000 nested headers of 5 bytes reserve gigabytes
before the first hook runs. Walking the type bytes costs 8-14 ms for the slowest frames that are let
through, 3 us for a token message and nothing for long text (2-core x86-64 VM, November 2026).
"""

from __future__ import annotations

from typing import Final

from qwend.errors import RemoteProtocolError
from qwend.wire import limits

# Bytes taken by a value of each kind that has a fixed size and is no container, type byte included;
# 0: needs a closer look. https://github.com/msgpack/msgpack/blob/master/spec.md#formats
_FIXED_BYTES: Final = bytes(
    {
        **dict.fromkeys(range(0x80), 1),  # positive fixint
        **dict.fromkeys(range(0xE0, 0x100), 1),  # negative fixint
        **dict.fromkeys((0xC0, 0xC2, 0xC3), 1),  # nil, false, true
        **dict.fromkeys((0xCC, 0xD0), 2),  # uint8, int8
        **dict.fromkeys((0xCD, 0xD1), 3),  # uint16, int16
        **dict.fromkeys((0xCE, 0xD2, 0xCA), 5),  # uint32, int32, float32
        **dict.fromkeys((0xCF, 0xD3, 0xCB), 9),  # uint64, int64, float64
    }.get(kind, 0)
    for kind in range(0x100)
)
# Keys and values in a container whose type byte says how many.
_FIX_VALUES: Final = {
    **{0x80 + entries: 2 * entries for entries in range(16)},  # fixmap
    **{0x90 + entries: entries for entries in range(16)},  # fixarray
}
# The kinds with a length behind the type byte: how many bytes that length takes.
_STRING_LENGTH: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
_ARRAY_LENGTH: Final = {0xDC: 2, 0xDD: 4}
_MAP_LENGTH: Final = {0xDE: 2, 0xDF: 4}


def check_payload(payload: bytes) -> None:
    """Let `payload` pass if it is one complete map within the limits, and nothing after it.

    Raises: RemoteProtocolError, fatal, with code `too_complex` or `bad_frame`.
    """
    if not payload:
        raise _bad_frame("the frame is empty; a frame carries one map")
    first = payload[0]
    if not (0x80 <= first <= 0x8F or first in _MAP_LENGTH):
        raise _bad_frame(f"the payload starts with byte 0x{first:02x}; a frame carries one map")
    try:
        end = _walk(payload)
    except IndexError:
        end = len(payload) + 1
    if end > len(payload):
        raise _bad_frame("the payload ends in the middle of a value; check the length header")
    if end < len(payload):
        raise _bad_frame(f"{len(payload) - end} bytes follow the map; send one map per frame")


def _walk(payload: bytes) -> int:
    """Return the offset behind the first value. Raises: IndexError where the payload ends early."""
    fixed_bytes, fix_values = _FIXED_BYTES, _FIX_VALUES
    outer: list[int] = []  # values still to come in each container around the current one
    pending = 1  # the same for the current one
    position = containers = strings = values = 0
    while True:
        for rest in range(pending - 1, -1, -1):
            kind = payload[position]
            if taken := fixed_bytes[kind]:
                position += taken
            elif kind & 0xE0 == 0xA0:  # fixstr
                position += 1 + (kind & 0x1F)
                strings += 1
            elif kind in _STRING_LENGTH:
                position, length = _length(payload, position + 1, _STRING_LENGTH[kind])
                position += length
                strings += 1
            else:
                position += 1
                if (pending := fix_values.get(kind, -1)) < 0:
                    position, pending = _container(payload, position, kind)
                outer.append(rest)
                containers += 1
                values += pending
                if containers > limits.CONTAINERS:
                    raise _too_complex("maps and arrays", limits.CONTAINERS)
                if len(outer) > limits.DEPTH:
                    raise _too_complex("levels of maps and arrays", limits.DEPTH)
                if values > limits.VALUES:
                    raise _too_complex("values", limits.VALUES)
                break
        else:
            if strings > limits.STRINGS:
                raise _too_complex("strings", limits.STRINGS)
            if not outer:
                return position
            pending = outer.pop()


def _container(payload: bytes, position: int, kind: int) -> tuple[int, int]:
    """Read the length of a container of `kind`; return the offset behind it and its values."""
    if kind in _ARRAY_LENGTH:
        position, entries = _length(payload, position, _ARRAY_LENGTH[kind])
        if entries > limits.ARRAY_ENTRIES:
            raise _too_complex("entries in one array", limits.ARRAY_ENTRIES)
        return position, entries
    if kind in _MAP_LENGTH:
        position, entries = _length(payload, position, _MAP_LENGTH[kind])
        if entries > limits.MAP_ENTRIES:
            raise _too_complex("entries in one map", limits.MAP_ENTRIES)
        return position, 2 * entries
    if kind == 0xC1:
        raise _bad_frame("byte 0xc1 where a value should start; MessagePack never uses it")
    raise _bad_frame(f"extension type (byte 0x{kind:02x}); qwend/1 uses none, nor timestamps")


def _length(payload: bytes, position: int, size: int) -> tuple[int, int]:
    end = position + size
    if end > len(payload):
        raise IndexError
    return end, int.from_bytes(payload[position:end], "big")


def _bad_frame(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(what, code="bad_frame", fatal=True)


def _too_complex(what: str, limit: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the frame has more than {limit:,} {what}; split the work into smaller requests",
        code="too_complex",
        fatal=True,
    )
