"""How much room there is for a copy of the model.

Rule 1: a copy in memory is measured against memory as well as against its file system.
Rule 2: this file does not know what is copied.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qwend.errors import HostError
from qwend.host.memory import available_bytes
from qwend.host.mounts import is_tmpfs
from qwend.host.root import HostRoot

# A copy in memory must not be what starts the OOM killer; the system itself needs about this much.
MEMORY_RESERVE_BYTES = 64 * 2**20


def place_for_copy(places: Sequence[Path], size: int) -> Path:
    """Return the first place whose file system could hold `size` bytes were it empty, or the first.

    By what it is and not by what is in it: the next start must find the copy of this one.
    """
    return next((place for place in places if _whole_size(place) >= size), places[0])


def free_on_disk(directory: Path) -> int:
    """Return the bytes that we may still write to the file system it is, or will be, on."""
    info = os.statvfs(_existing(directory))
    return info.f_bavail * info.f_frsize


def free_for_copy(root: HostRoot, directory: Path, besides: int = 0) -> int:
    """Return the bytes a copy may take: on tmpfs the memory at hand counts, not only its size.

    besides: bytes of memory that whoever wants the copy will need for other things.
    """
    free = free_on_disk(directory)
    if is_tmpfs(root, directory):
        return min(free, max(0, available_bytes(root) - MEMORY_RESERVE_BYTES - besides))
    return free


def does_not_fit(directory: Path, needed: int, free: int) -> HostError:
    """Return the error to raise, with both figures."""
    cause = f"it needs {_mebi(needed)}, {_mebi(free)} are free for it"
    return HostError(str(directory), "making a copy of the model in", cause)


def _whole_size(place: Path) -> int:
    """Bytes of the file system that `place` is, or will be, on."""
    info = os.statvfs(_existing(place))
    return info.f_blocks * info.f_frsize


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


def _mebi(count: int) -> str:
    return f"{count / 2**20:.1f} MiB ({count} bytes)"
