"""Which file system a path is on.

Rule 1: the answer is the kernel's table of mounts (proc(5), /proc/self/mountinfo).
Rule 2: this file does not know why anybody asks.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from qwend.host.root import HostRoot

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def is_tmpfs(root: HostRoot, path: Path) -> bool:
    """Say whether what is written at `path` stays in memory. Raises: HostError without /proc."""
    return filesystem_type(root, path) in _IN_MEMORY


def filesystem_type(root: HostRoot, path: Path) -> str:
    """Return the type of the file system at `path`, whose last parts need not exist yet."""
    wanted = os.path.realpath(path)
    best, found = "", "unknown"
    for line in root.read_text("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or not kind:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        covers = wanted == mount or wanted.startswith(mount.rstrip("/") + "/")
        # Of two mounts at one place the later one hides the earlier.
        if covers and len(mount) >= len(best):
            best, found = mount, kind[0]
    return found
