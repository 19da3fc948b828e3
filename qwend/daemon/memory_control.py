"""Memory: idle prefixes make room before the kernel kills something, and come back afterwards.

Owns how many bytes the idle prefixes may take; reads neither the machine nor a clock. They are the
one thing here that can be given up at once and is only time lost: what leaves goes to disk where
there is one, or is computed again.
"""

from __future__ import annotations

from qwend.host.reading import Reading
from qwend.host.space import MEMORY_RESERVE_BYTES

# Work that waits for memory a tenth of the time is felt by everyone on the machine. systemd-oomd
# begins to kill at 60 %.
SHORT_PERCENT = 10.0
CALM_PERCENT = 1.0
# Where only the machine's own figure is known, some group may thrash below a limit of its own
# while there is plenty: then it counts only if less than this share is left.
MACHINE_SHARE = 0.25
# What is left to the system: below it anything can start the OOM killer. Of a machine of 512 MiB a
# sixteenth is enough.
RESERVE_BYTES = MEMORY_RESERVE_BYTES
RESERVE_SHARE = 1 / 16
# The figure is an average over ten seconds: sooner it does not show what was given up.
STEP_S = 10.0
# Prefixes come back as they are used, not at once; a minute without pressure is no pause in it.
CALM_S = 60.0
LEAST_BYTES = 2**20  # less than one prefix of 100 tokens is nothing


class MemoryControl:
    """Feed it with every reading; `limit_bytes` is what idle prefixes may take."""

    def __init__(self, configured_bytes: int) -> None:
        self.configured_bytes = configured_bytes
        self.limit_bytes = configured_bytes
        self.short = False
        """Memory is short, or was a minute ago."""
        self._step_at = float("-inf")  # monotonic seconds
        self._short_at = float("-inf")

    def observe(self, reading: Reading, used_bytes: int, now: float) -> None:
        """used_bytes: of the idle prefixes in memory."""
        if _is_short(reading):
            self.short = True
            self._short_at = now
            if now >= self._step_at + STEP_S:
                self._step_at = now
                half = min(used_bytes, self.limit_bytes) // 2
                self.limit_bytes = half if half >= LEAST_BYTES else 0
        elif not _is_calm(reading):
            self._short_at = now
        elif self.short and now >= self._short_at + CALM_S:
            self.short = False
            self.limit_bytes = self.configured_bytes


def _is_short(reading: Reading) -> bool:
    left, total = reading.before_oom_bytes, reading.total_bytes
    if left is not None and left < _reserve(total):
        return True
    pressure = reading.pressure
    if pressure is None or pressure.percent < SHORT_PERCENT:
        return False
    return pressure.own or left is None or total is None or left < total * MACHINE_SHARE


def _is_calm(reading: Reading) -> bool:
    left, pressure = reading.before_oom_bytes, reading.pressure
    if left is not None and left < 2 * _reserve(reading.total_bytes):
        return False
    if pressure is None or not pressure.own:
        # A machine's figure alone is judged as above, with what is left.
        return True
    return pressure.percent < CALM_PERCENT


def _reserve(total: int | None) -> float:
    return RESERVE_BYTES if total is None else min(RESERVE_BYTES, total * RESERVE_SHARE)
