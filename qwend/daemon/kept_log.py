"""A log in memory that outlives this process: frames, one after another.

Owns a memfd. A frame counts once the end of the log is behind it, and that is one store of eight
bytes, so a kill at any instruction leaves whole frames. Knows nothing of what they say.

Bytes 0 to 31: what it is; 32 to 39: where the frames begin and end; from 64 on: frames.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Self

from qwend.errors import RemoteProtocolError
from qwend.wire import limits
from qwend.wire.frame import FrameReader, decode_payload

MAGIC = b"qwend requests, format 1\n"
# Answers of 8 requests with prompts of a frame's size each; memory is taken as it is written to.
LOG_BYTES = 16 << 20
_BOUNDS = struct.Struct("=II")
_BOUNDS_AT = 32
_BEGIN = 64


class KeptLog:
    """fd: what is to be kept."""

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self.fd = fd
        self._memory = memory
        self._begin: int
        self._end: int
        self._begin, self._end = _BOUNDS.unpack_from(memory, _BOUNDS_AT)

    @classmethod
    def create(cls, size_bytes: int = LOG_BYTES) -> Self:
        fd = os.memfd_create("qwend-requests", os.MFD_CLOEXEC)
        os.ftruncate(fd, size_bytes)
        memory = mmap.mmap(fd, 0)
        memory[_BOUNDS_AT : _BOUNDS_AT + _BOUNDS.size] = _BOUNDS.pack(_BEGIN, _BEGIN)
        memory[: len(MAGIC)] = MAGIC
        return cls(fd, memory)

    @classmethod
    def open(cls, fd: int) -> Self | None:
        """What another process has left; None if it is not of this format. The descriptor is ours
        from now on, if it is not None."""
        size = os.fstat(fd).st_size
        if size <= _BEGIN or os.pread(fd, len(MAGIC), 0) != MAGIC:
            return None
        begin, end = _BOUNDS.unpack(os.pread(fd, _BOUNDS.size, _BOUNDS_AT))
        if not _BEGIN <= begin <= end <= size:
            return None
        return cls(fd, mmap.mmap(fd, 0))

    @property
    def used_bytes(self) -> int:
        return self._end - self._begin

    def append(self, frame: bytes) -> bool:
        """False if there is no room."""
        end = self._end + len(frame)
        if end > len(self._memory):
            return False
        self._memory[self._end : end] = frame
        self._bound(self._begin, end)
        return True

    def replace(self, frames: Iterable[bytes]) -> bool:
        """From now on the log is these; False, and nothing has changed, if there is no room."""
        data = b"".join(frames)
        begin = _BEGIN if _BEGIN + len(data) <= self._begin else self._end
        if begin + len(data) > len(self._memory):
            return False
        old = range(self._begin, self._end)
        self._memory[begin : begin + len(data)] = data
        self._bound(begin, begin + len(data))
        self._give_back(old)
        return True

    def read(self) -> Iterator[dict[str, object]]:
        """What the frames say, in order; up to one that cannot be read."""
        reader = FrameReader(limits.FRAME_BYTES)
        reader.feed(self._memory[self._begin : self._end])
        with suppress(RemoteProtocolError):
            while (payload := reader.next_payload()) is not None:
                yield decode_payload(payload)

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)

    def _bound(self, begin: int, end: int) -> None:
        self._begin, self._end = begin, end
        self._memory[_BOUNDS_AT : _BOUNDS_AT + _BOUNDS.size] = _BOUNDS.pack(begin, end)

    def _give_back(self, old: range) -> None:
        """The pages that hold nothing any more, to the kernel."""
        first = -(-old.start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = old.stop // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            with suppress(OSError):
                self._memory.madvise(mmap.MADV_REMOVE, first, last - first)
