"""The seal around a sequence's cells: bytes that are not as they were written are refused.

llama.cpp does not do that: it takes an empty state and most flipped bits for good, and a position
that became negative stays in the cells afterwards.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from ctypes import Array, c_uint8

# Length of the state in bytes and its CRC-32, which costs 0.3 ms a MiB.
SEAL = struct.Struct("<QI")


def sealed(size: int, write: Callable[[Array[c_uint8]], int]) -> bytes:
    """A blob around the state that `write` puts into an array of `size` bytes.

    write: returns how many bytes the state is.
    """
    buffer = (c_uint8 * (SEAL.size + size))()
    written = write((c_uint8 * size).from_buffer(buffer, SEAL.size))
    blob = memoryview(buffer).cast("B")[: SEAL.size + written]
    SEAL.pack_into(blob, 0, written, zlib.crc32(blob[SEAL.size :]))
    return bytes(blob)


def unsealed(blob: bytes) -> Array[c_uint8] | None:
    """The state within, or None if it is empty or not as it was written."""
    if len(blob) <= SEAL.size:
        return None
    length, checksum = SEAL.unpack_from(blob)
    state = memoryview(blob)[SEAL.size :]
    if length != len(state) or checksum != zlib.crc32(state):
        return None
    copy: Array[c_uint8] = (c_uint8 * length).from_buffer_copy(state)
    return copy
