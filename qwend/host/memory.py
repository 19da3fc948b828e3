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
    return _tighter(_meminfo(root, "MemAvailable"), cgroup.memory_available(root))


def before_oom_bytes(root: HostRoot) -> int:
    """Return what can be taken before the kernel kills something, the machine's or the groups'.

    Raises: HostError if the kernel does not say.
    """
    return _tighter(_meminfo(root, "MemAvailable"), cgroup.memory_before_oom(root))


def total_bytes(root: HostRoot) -> int:
    """Return the machine's memory. Raises: HostError if the kernel does not say."""
    return _meminfo(root, "MemTotal")


def _tighter(machine: int, group: int | None) -> int:
    return machine if group is None else min(machine, group)


def _meminfo(root: HostRoot, wanted: str) -> int:
    for line in root.read_text(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == wanted:
            return _kibibytes(value, wanted)
    raise HostError(_MEMINFO, f"looking for {wanted} in", "it is not there")


def _kibibytes(value: str, wanted: str) -> int:
    number, _, unit = value.strip().partition(" ")
    if not number.isascii() or not number.isdigit() or unit != "kB":
        raise HostError(_MEMINFO, f"reading {wanted} from", f"{value.strip()!r} is no size")
    return int(number) * 1024
