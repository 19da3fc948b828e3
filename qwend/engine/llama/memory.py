"""Memory that llama.cpp holds and does not need, given back to the kernel. Nothing is lost by it.

Two kinds: pages of the model's file that were read to be repacked (200 of 330 MB of 0.5B in Q4_0),
which stay mapped although their repacked copies are what runs; and the zeros that an empty KV cache
is filled with (96 MB for 8,192 tokens), which the kernel makes again when they are touched.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAPS = Path("/proc/self/maps")
STATUS = Path("/proc/self/status")
MADV_DONTNEED = 4  # madvise(2)
# Zeros are looked for in pieces of this: large enough to be quick (100 MB take 15 ms), small enough
# that a piece with anything in it costs little.
PIECE_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


@dataclass(frozen=True, slots=True)
class Area:
    """Addresses start .. end-1 of our memory. file: (device, inode), (0, 0) if of no file."""

    start: int
    end: int
    writable: bool
    file: tuple[int, int]


def areas(maps: Path = MAPS) -> list[Area]:
    """What is mapped now; proc_pid_maps(5)."""
    found = []
    for line in maps.read_text("utf-8", "replace").splitlines():
        span, modes, _offset, device, inode, *_name = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in span.split("-"))
        major, minor = (int(part, 16) for part in device.split(":"))
        file = (os.makedev(major, minor), int(inode))
        found.append(Area(start, end, "w" in modes, file))
    return found


def own_bytes(status: Path = STATUS) -> int:
    """Memory of our own that is resident, that is, of no file; proc_pid_status(5)."""
    for line in status.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "RssAnon":
            return int(value.split()[0]) * 1024
    return 0


def file_areas(path: str) -> list[Area]:
    """Where the file is mapped read-only."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    file = (status.st_dev, status.st_ino)
    return [area for area in areas() if area.file == file and not area.writable]


def release_file(path: str) -> None:
    """Let go of all pages of the file that are mapped read-only; what is used comes back."""
    for area in file_areas(path):
        _libc.madvise(area.start, area.end - area.start, MADV_DONTNEED)


def release_zeros(before: list[Area]) -> int:
    """Let go of what is zero in anonymous memory that was mapped since `before`.

    Only for a moment when nothing else writes there. Returns the bytes that were let go.
    """
    zeros = ctypes.create_string_buffer(PIECE_BYTES)
    released = 0
    for start, end in added(before, areas()):
        for at in range(start, end - PIECE_BYTES + 1, PIECE_BYTES):
            if _libc.memcmp(at, zeros, PIECE_BYTES) == 0:
                _libc.madvise(at, PIECE_BYTES, MADV_DONTNEED)
                released += PIECE_BYTES
    return released


def added(before: list[Area], after: list[Area]) -> Iterator[tuple[int, int]]:
    """Writable anonymous spans in `after` that are not in `before`."""
    old = sorted((area.start, area.end) for area in before)
    for area in after:
        if not area.writable or area.file != (0, 0):
            continue
        start = area.start
        for old_start, old_end in old:
            if old_end <= start or old_start >= area.end:
                continue
            if old_start > start:
                yield start, old_start
            start = max(start, old_end)
        if start < area.end:
            yield start, area.end
