"""How much memory can still be taken without swapping.

Rule 1: the machine's figure and the control group's are one answer here, the smaller.
Rule 2: this file does not know who wants the memory.
"""

from __future__ import annotations

from qwend.errors import HostError
from qwend.host import cgroup
from qwend.host.root import HostRoot

_MEMINFO = "/proc/meminfo"


def available_bytes(root: HostRoot) -> int:
    """Return MemAvailable (proc(5)), or what the control groups leave if that is less.

    Raises: HostError if the kernel does not say.
    """
    for line in root.read_text(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            machine = _kibibytes(value)
            group = cgroup.memory_available(root)
            return machine if group is None else min(machine, group)
    raise HostError(_MEMINFO, "looking for MemAvailable in", "it is not there")


def _kibibytes(value: str) -> int:
    number, _, unit = value.strip().partition(" ")
    if not number.isascii() or not number.isdigit() or unit != "kB":
        raise HostError(_MEMINFO, "reading MemAvailable from", f"{value.strip()!r} is no size")
    return int(number) * 1024
