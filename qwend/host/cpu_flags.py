"""What a CPU can compute with, in the kernel's own words.

Rule 1: only what every CPU of the machine has counts, for any of them may compute.
Rule 2: this file does not know what a flag is good for.
"""

from __future__ import annotations

from qwend.errors import HostError
from qwend.host.root import HostRoot

_CPUINFO = "/proc/cpuinfo"
# x86 and s390x, ARM; RISC-V says one word, "rv64imafdcv_zba", of which each letter counts.
_LISTS = frozenset({"flags", "features"})
_ISA = "isa"


def cpu_flags(root: HostRoot) -> frozenset[str]:
    """Return the flags as /proc/cpuinfo has them; none where the kernel does not say."""
    try:
        lines = root.read_text(_CPUINFO).splitlines()
    except HostError:
        return frozenset()
    of_each: list[frozenset[str]] = []
    for line in lines:
        key, _, value = line.partition(":")
        kind = key.strip().lower()
        if kind in _LISTS:
            of_each.append(frozenset(value.split()))
        elif kind == _ISA:
            base, *extensions = value.strip().split("_")
            of_each.append(frozenset({*base[4:], *extensions}))
    return frozenset.intersection(*of_each) if of_each else frozenset()
