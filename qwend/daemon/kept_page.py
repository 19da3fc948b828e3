"""What the next front must know of each connection, in memory that outlives this process.

Owns a memfd: page 0 says what it is, page n belongs to connection n. A page is changed by plain
stores into shared memory, which a kill at any moment leaves as they are; so a page says of itself
while something is under way that is not in it (`Doubt`). Knows nothing of sockets or systemd.

A page: flags (1 byte), length of the record (2), of what is held (2); the record as JSON, and then
what is held. Keys may be added to the record; whoever reads it passes over what it does not know.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Self

PAGE_BYTES = 4096
MAGIC = b"qwend connections, format 1\n"
_HEADER = struct.Struct(">BHH")
_USED = 0x80


class Doubt(IntFlag):
    """What a process that dies now leaves unknown.

    READING: bytes may have been read that are not in the page. WRITING: a message may have been
    written in part, or not at all.
    """

    NONE = 0
    READING = 1
    WRITING = 2


@dataclass(frozen=True, slots=True)
class Record:
    """capabilities: of the client, as far as we use them. open: the client's ids of requests that
    have not ended. held: bytes read from the client that are not handled yet."""

    capabilities: tuple[str, ...] = ()
    open: tuple[int, ...] = ()
    held: bytes = b""


class Page:
    """One connection's page."""

    __slots__ = ("_at", "_flags", "_memory")

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory = memory
        self._at = number * PAGE_BYTES
        self._flags = self._memory[self._at]

    @property
    def doubt(self) -> Doubt:
        return Doubt(self._flags & ~_USED)

    def begin(self, doubt: Doubt) -> None:
        """From now on, until `write`, there is this doubt."""
        self._set(self._flags | doubt)

    def end(self, doubt: Doubt) -> None:
        """What the record says is true again in this respect."""
        # As an int: the inverse of an IntFlag has no bits but the flags'.
        self._set(self._flags & ~int(doubt))

    def write(self, record: Record) -> bool:
        """Put the record in, and be in doubt; False, and as before, if it is too long."""
        fields = {"capabilities": record.capabilities, "open": record.open}
        text = json.dumps(fields, separators=(",", ":")).encode()
        end = _HEADER.size + len(text) + len(record.held)
        if end > PAGE_BYTES:
            return False
        self._set(_USED | Doubt.READING | Doubt.WRITING)
        header = _HEADER.pack(self._flags, len(text), len(record.held))
        self._memory[self._at : self._at + end] = header + text + record.held
        return True

    def read(self) -> tuple[Record, Doubt] | None:
        """The record that another process left; None if there is none that can be read."""
        flags, length, held = _HEADER.unpack_from(self._memory, self._at)
        begin = self._at + _HEADER.size
        if not flags & _USED or length + held > PAGE_BYTES - _HEADER.size:
            return None
        try:
            fields = json.loads(self._memory[begin : begin + length])
            record = Record(
                tuple(map(str, fields["capabilities"])),
                tuple(map(int, fields["open"])),
                self._memory[begin + length : begin + length + held],
            )
        except (ValueError, TypeError, KeyError):
            return None
        return record, Doubt(flags & (Doubt.READING | Doubt.WRITING))

    def clear(self) -> None:
        self._set(0)

    def _set(self, flags: int) -> None:
        self._flags = flags
        self._memory[self._at] = flags


class Pages:
    """The memory of all pages. fd: what is to be kept."""

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self.fd = fd
        self._memory = memory

    @classmethod
    def create(cls, count: int) -> Self:
        """With `count` pages beside the first; a page takes memory once it is written to."""
        fd = os.memfd_create("qwend-connections", os.MFD_CLOEXEC)
        os.ftruncate(fd, (count + 1) * PAGE_BYTES)
        pages = cls(fd, mmap.mmap(fd, 0))
        pages._memory[: len(MAGIC)] = MAGIC
        return pages

    @classmethod
    def open(cls, fd: int, count: int) -> Self | None:
        """Those that another process has left, at least `count`; None if they are not of this
        format. The descriptor is ours from now on, if it is not None."""
        found = os.fstat(fd).st_size
        if found < PAGE_BYTES or os.pread(fd, len(MAGIC), 0) != MAGIC:
            return None
        if found < (count + 1) * PAGE_BYTES:
            os.ftruncate(fd, (count + 1) * PAGE_BYTES)
        return cls(fd, mmap.mmap(fd, 0))

    def __len__(self) -> int:
        return len(self._memory) // PAGE_BYTES - 1

    def page(self, number: int) -> Page:
        """number: from 1 on."""
        return Page(self._memory, number)

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)
