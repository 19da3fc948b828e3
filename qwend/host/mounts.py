"""Which file system a path is on.

Rule 1: the answer is the kernel's table of mounts (proc(5), /proc/self/mountinfo).
Rule 2: this file does not know why anybody asks.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from qwend.host.root import HostRoot

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_SIZE = re.compile(r"(?:^|,)size=(\d+)([kmg]?)(?:,|$)")
_UNIT = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True, slots=True)
class Mount:
    """place: where. device: what, such as /dev/mmcblk0p2. limit_bytes: of a tmpfs, else None."""

    place: str
    kind: str
    device: str
    limit_bytes: int | None


def is_tmpfs(root: HostRoot, path: Path) -> bool:
    """Say whether what is written at `path` stays in memory. Raises: HostError without /proc."""
    return filesystem_type(root, path) in _IN_MEMORY


def filesystem_type(root: HostRoot, path: Path) -> str:
    """Return the type of the file system at `path`, whose last parts need not exist yet."""
    mount = mount_of(root, os.path.realpath(path))
    return mount.kind if mount is not None else "unknown"


def mount_of(root: HostRoot, path: str) -> Mount | None:
    """Return the mount that `path`, which goes over no link, is on; None if there is none.

    Raises: HostError without /proc.
    """
    best: Mount | None = None
    for line in root.read_text("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) < 5 or not rest:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
        covers = path == place or path.startswith(place.rstrip("/") + "/")
        # Of two mounts at one place the later one hides the earlier.
        if covers and (best is None or len(place) >= len(best.place)):
            kind, device, options = (*rest, "", "")[:3]
            best = Mount(place, kind, device, _limit(options))
    return best


def _limit(options: str) -> int | None:
    found = _SIZE.search(options)
    return int(found[1]) * _UNIT[found[2]] if found else None
