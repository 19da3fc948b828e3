"""What is mounted where, with its size: enough of proc(5), /proc/self/mountinfo, for the checks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.root import HostRoot

_SIZE = re.compile(r"(?:^|,)size=(\d+)([kmg]?)(?:,|$)")
_UNIT = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


@dataclass(frozen=True, slots=True)
class Mount:
    """place: where. device: what, such as /dev/mmcblk0p2. limit_bytes: of a tmpfs, else None."""

    place: str
    kind: str
    device: str
    limit_bytes: int | None


def mount_of(root: HostRoot, path: str) -> Mount | None:
    """The file system that `path` is on; of two at one place the later hides the earlier."""
    try:
        lines = root.read_text("/proc/self/mountinfo").splitlines()
    except HostError:
        return None
    best: Mount | None = None
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        if len(fields) < 5 or len(rest) < 3:
            continue
        place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
        covers = path == place or path.startswith(place.rstrip("/") + "/")
        if covers and (best is None or len(place) >= len(best.place)):
            best = Mount(place, rest[0], rest[1], _limit(rest[2]))
    return best


def is_sd_card(root: HostRoot, device: str) -> bool:
    """An SD card, and not an eMMC, which has the same name (Documentation/mmc in the kernel)."""
    found = re.match(r"/dev/(mmcblk\d+)", device)
    if found is None:
        return False
    try:
        return root.read_text(f"/sys/block/{found[1]}/device/type").strip() == "SD"
    except HostError:
        return False


def _limit(options: str) -> int | None:
    found = _SIZE.search(options)
    return int(found[1]) * _UNIT[found[2]] if found else None
