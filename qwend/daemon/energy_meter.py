"""The energy meter: joules of this machine since the start, from whatever can tell them.

Owns the sum. Counters are read when asked, so that a short answer is measured exactly; of what
only says watts, a board's own meter or a battery, the last word holds until the next.
"""

from __future__ import annotations

from collections.abc import Callable

from qwend.host.energy import EnergyCounters


class EnergyMeter:
    """clock: monotonic seconds. Used by the front's event loop alone."""

    def __init__(self, counters: EnergyCounters, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._clock = clock
        self._watts: float | None = None
        self._since = 0.0
        self._joules = 0.0

    @property
    def source(self) -> str:
        """For people; empty where nothing is measured now."""
        return self._counters.source or ("power meter" if self._watts is not None else "")

    @property
    def problem(self) -> str:
        """Why nothing is measured where something could be."""
        return "" if self.source else self._counters.problem

    def measured(self, watts: float | None) -> None:
        """What the machine takes from now on; None: nobody says."""
        now = self._clock()
        if self._watts is not None:
            self._joules += self._watts * (now - self._since)
        self._watts, self._since = watts, now

    def joules(self) -> float | None:
        """None where nothing is measured now."""
        now = self._clock()
        if self._counters.source:
            return self._counters.joules(now)
        if self._watts is None:
            return None
        return self._joules + self._watts * (now - self._since)
