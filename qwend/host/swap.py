"""Where the kernel may put memory when it runs short.

Rule 1: swap is what /proc/swaps lists (proc_swaps(5)); without the file there is none.
Rule 2: this file does not know what is to be kept out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.root import HostRoot

_SWAPS = "/proc/swaps"


@dataclass(frozen=True, slots=True)
class Swap:
    """One partition or file that the kernel swaps to."""

    name: str
    size_bytes: int


def swaps_in_use(root: HostRoot) -> tuple[Swap, ...]:
    try:
        lines = root.read_text(_SWAPS).splitlines()
    except HostError:
        return ()
    found = []
    for line in lines:  # the first names the columns, and has no figures
        # Blanks in a name are written as \040, so that the columns are what blanks separate.
        fields = line.split()
        if len(fields) >= 3 and fields[2].isdigit():
            found.append(Swap(fields[0], int(fields[2]) * 1024))
    return tuple(found)
