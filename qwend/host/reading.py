"""One look at the machine while it computes: heat, throttling, power, memory.

Rule 1: everything is read here in one go, so that it can be done beside the event loop: an ACPI
battery may take tens of milliseconds to answer.
Rule 2: nothing here is an error: what a machine does not have, or does not show, is None.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.energy import board_watts
from qwend.host.memory import before_oom_bytes, total_bytes
from qwend.host.power_supply import Power, read_power
from qwend.host.pressure import MemoryPressure, read_pressure
from qwend.host.root import HostRoot
from qwend.host.thermal import Heat, read_heat
from qwend.host.throttling import Throttling, read_throttling


@dataclass(frozen=True, slots=True)
class Reading:
    """watts: of the whole board, as a meter of its own or the battery says.

    before_oom_bytes: memory until something is killed. total_bytes: of the machine.
    """

    heat: Heat | None = None
    throttling: Throttling | None = None
    power: Power | None = None
    watts: float | None = None
    pressure: MemoryPressure | None = None
    before_oom_bytes: int | None = None
    total_bytes: int | None = None


def read_machine(root: HostRoot) -> Reading:
    power = read_power(root)
    watts = board_watts(root)
    if watts is None and power is not None:
        watts = power.watts
    return Reading(
        heat=read_heat(root),
        throttling=read_throttling(root),
        power=power,
        watts=watts,
        pressure=read_pressure(root),
        before_oom_bytes=_known(before_oom_bytes, root),
        total_bytes=_known(total_bytes, root),
    )


def _known(figure: Callable[[HostRoot], int], root: HostRoot) -> int | None:
    try:
        return figure(root)
    except HostError:
        return None
