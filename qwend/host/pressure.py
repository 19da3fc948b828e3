"""How much of the time work stands still because memory is short.

Rule 1: our own control group's figure where the kernel keeps one, for another group that thrashes
below its own limit is no reason to give up anything; the machine's otherwise.
Rule 2: this file does not know what to do about it.

Source: Documentation/accounting/psi.rst. avg10 is a moving average over 10 s, in percent; `some`:
at least one task waited. Plain reading needs no rights, and a trigger would (a service may not
write to its own memory.pressure).
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host import cgroup
from qwend.host.root import HostRoot

MACHINE = "/proc/pressure/memory"


@dataclass(frozen=True, slots=True)
class MemoryPressure:
    """percent: of the last ten seconds. own: of our control group alone."""

    percent: float
    own: bool


def read_pressure(root: HostRoot) -> MemoryPressure | None:
    """Return the pressure on memory; None where the kernel does not measure it (CONFIG_PSI)."""
    own = cgroup.own_directory(root, "memory")
    if own is not None:
        percent = _some_avg10(root, f"{own}/memory.pressure")
        if percent is not None:
            return MemoryPressure(percent, own=True)
    percent = _some_avg10(root, MACHINE)
    return None if percent is None else MemoryPressure(percent, own=False)


def _some_avg10(root: HostRoot, path: str) -> float | None:
    try:
        text = root.read_text(path)
    except HostError:
        # Missing, or booted with psi=0: reading then says "Operation not supported".
        return None
    for line in text.splitlines():
        if line.startswith("some avg10="):
            try:
                percent = float(line.split()[1].removeprefix("avg10="))
            except ValueError:
                return None
            return min(max(percent, 0.0), 100.0)
    return None
