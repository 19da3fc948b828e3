"""What the firmware did to the processor, remembered for as long as it is worth telling.

Owns when each flag was last seen; reads nothing itself. Under-voltage comes in spikes far shorter
than the time between two looks, and the firmware's own memory of it is cleared by the kernel's
driver: the flag that "has occurred" tells of a spike, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qwend.host.throttling import Flag, Throttling

# Long enough that whoever looks after a strange answer still finds the cause.
TOLD_S = 600.0

_REASONS = {
    Flag.UNDER_VOLTAGE: "under-voltage: the power supply or its cable is too weak",
    Flag.FREQUENCY_CAPPED: "the firmware caps the processor's clock",
    Flag.THROTTLED: "the firmware throttles the processor",
    Flag.SOFT_TEMPERATURE_LIMIT: "the processor is at its soft temperature limit and runs slower",
}


class ThrottleMemory:
    """Feed it with every reading."""

    def __init__(self) -> None:
        self._flags: Throttling | None = None
        self._spike_at = float("-inf")  # monotonic seconds
        self._ever: set[Flag] = set()

    def observe(self, flags: Throttling | None, now: float) -> None:
        before, self._flags = self._flags, flags
        if flags is None:
            return
        self._ever |= flags.now | flags.occurred
        # One that was set when we first looked may be of any time since the machine started.
        fresh = flags.occurred - before.occurred if before is not None else frozenset()
        if Flag.UNDER_VOLTAGE in flags.now | fresh:
            self._spike_at = now

    def reasons(self, now: float) -> Iterator[str]:
        """Why to be degraded: what is so now, and under-voltage of late, for it comes again."""
        present = self._flags.now if self._flags is not None else frozenset()
        for flag, reason in _REASONS.items():
            if flag in present:
                yield reason
            elif flag is Flag.UNDER_VOLTAGE and now < self._spike_at + TOLD_S:
                yield f"{reason} (not now, but within the last ten minutes)"

    def status(self) -> dict[str, Any] | None:
        """None on a machine without flags. occurred: since we or the firmware began to look."""
        if self._flags is None:
            return None
        return {
            "now": [flag.value for flag in Flag if flag in self._flags.now],
            "occurred": [flag.value for flag in Flag if flag in self._ever],
        }
