"""When the machine has come to rest: a condition on /proc/stat, not a pause.

proc_stat(5): the line `cpu` holds, in ticks, the time of all CPUs in each state; the 4th and 5th
figure (idle, iowait) are those in which nothing is computed, the 9th and 10th (guest, guest_nice)
are counted in user and nice already.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")
# Two CPUs give 100 ticks in half a second: enough to tell 5 % from nothing.
WINDOW_S = 0.5


@dataclass(frozen=True, slots=True)
class CpuTicks:
    busy: int
    total: int

    @classmethod
    def of(cls, stat: str) -> CpuTicks:
        """From the text of /proc/stat."""
        figures = [int(word) for word in stat.splitlines()[0].split()[1:9]]
        idle = sum(figures[3:5])
        return cls(sum(figures) - idle, sum(figures))

    def busy_share_since(self, before: CpuTicks) -> float:
        return (self.busy - before.busy) / max(1, self.total - before.total)


async def wait_until_quiet(share: float, patience_s: float, stat: Path = STAT) -> bool:
    """Wait until less than `share` of all CPUs is used over WINDOW_S; False if it never was."""
    deadline = time.monotonic() + patience_s
    before = CpuTicks.of(stat.read_text())
    while True:
        await asyncio.sleep(min(WINDOW_S, patience_s))
        now = CpuTicks.of(stat.read_text())
        if now.busy_share_since(before) < share:
            return True
        if time.monotonic() >= deadline:
            return False
        before = now
