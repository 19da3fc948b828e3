"""Bounded access to the bytes of one GGUF file: integers, strings, arrays of strings.

Rule 1: every length is checked against the rest of the file and a limit before anything is read.
Rule 2: nothing is kept; what is read goes back to the caller. Rule 3: this file does not know the
order of things in a header.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from qwend.errors import ModelError

# llama.cpp copies the whole header into memory; the largest Qwen header of 2026 is 12 MiB.
MAX_HEADER_BYTES = 256 << 20
# Large enough that reading is not the cost of a scan, small enough to not matter in memory.
WINDOW_BYTES = 1 << 18

# What a message quotes of a file may be a MiB long there.
MAX_SAID_CHARACTERS = 300

AGAIN = "the file is damaged or incomplete: download it again"

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")


class GgufFile:
    """One open file of `size` bytes; a descriptor's own position is never used or moved.

    Raises: ModelError from every method that reads, naming file, field and byte.
    """

    def __init__(self, file: BinaryIO | int, size: int, *, path: str = "") -> None:
        self._file = file
        self.size = size
        self.path = path or "the model file"

    def bad(self, field: str, offset: int, what: str, to_do: str = AGAIN) -> ModelError:
        return ModelError(f"{self.path}: {short(field)} at byte {offset}: {short(what)}; {to_do}")

    def read(self, offset: int, count: int, field: str) -> bytes:
        """Exactly `count` bytes; the caller has limited `count`."""
        end = offset + count
        if end > self.size:
            where = min(offset, self.size)
            raise self.bad(field, where, f"needs {count} bytes and the file ends at {self.size}")
        if end > MAX_HEADER_BYTES:
            raise self.bad(field, offset, f"the header is larger than {MAX_HEADER_BYTES} bytes")
        try:
            if isinstance(self._file, int):
                data = os.pread(self._file, count, offset)
            else:
                self._file.seek(offset)
                data = self._file.read(count)
        except OSError as error:
            what = f"cannot be read: {error.strerror or error}"
            raise self.bad(field, offset, what, "check the disk") from error
        if len(data) != count:
            raise self.bad(field, offset, "the file became shorter while it was read")
        return data

    def u32(self, offset: int, field: str) -> int:
        value: int = U32.unpack(self.read(offset, 4, field))[0]
        return value

    def u64(self, offset: int, field: str) -> int:
        value: int = U64.unpack(self.read(offset, 8, field))[0]
        return value

    def text(self, offset: int, limit_bytes: int, field: str) -> bytes:
        """The length-prefixed string at `offset`, undecoded."""
        length = self.u64(offset, field)
        if length > limit_bytes:
            raise self.bad(field, offset, f"{length} bytes long, the limit is {limit_bytes}")
        return self.read(offset + 8, length, field)

    def strings(self, offset: int, count: int, limit_bytes: int, field: str) -> Iterator[bytes]:
        """The elements of a string array whose first one is at `offset`."""
        unpack, window, base, start = U64.unpack_from, b"", offset, 0
        for index in range(count):
            end = start + 8
            if end <= len(window):
                end += unpack(window, start)[0]
            if end > len(window):
                base, start = base + start, 0
                what = f"{field}[{index}]"
                end = 8 + len(self.text(base, limit_bytes, what))
                window = self._window(base, end, what)
            yield window[start + 8 : end]
            start = end

    def skip_strings(self, offset: int, count: int, field: str) -> int:
        """Where an array of `count` strings ends: one pass over the lengths."""
        unpack, window, base, start, left = U64.unpack_from, b"", offset, 0, count
        while left:
            try:
                while left:
                    start += 8 + unpack(window, start)[0]
                    left -= 1
            except (struct.error, OverflowError):  # `start` is outside of the window: move it there
                base, start = base + start, 0
                window = self._window(base, 8, f"{field}[{count - left}]")
        if base + start > self.size:
            what = f"the last of {count} strings goes beyond the end of the file at {self.size}"
            raise self.bad(field, min(base, self.size), what)
        return base + start

    def _window(self, base: int, least_bytes: int, field: str) -> bytes:
        """Up to WINDOW_BYTES more than `least_bytes` from `base` on."""
        spare = min(self.size, MAX_HEADER_BYTES) - base
        return self.read(base, max(least_bytes, min(WINDOW_BYTES, spare)), field)


def short(said: str) -> str:
    """The beginning of what may quote a file, and its end."""
    if len(said) <= MAX_SAID_CHARACTERS:
        return said
    return f"{said[: MAX_SAID_CHARACTERS // 2]} ... {said[-MAX_SAID_CHARACTERS // 2 :]}"
