"""What processes really take: PSS, in which a page that two share counts half for each.

proc_pid_smaps(5): smaps_rollup is the sum of smaps, lines such as `Pss:  352 kB`. Pss_Shmem are
pages of tmpfs files and shared memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
# A look at 700 MB takes about 2 ms; a peak that is shorter than this is missed.
EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Pss:
    """Bytes. shared: of it, pages of files in memory (tmpfs)."""

    total: int = 0
    shared: int = 0

    @classmethod
    def of(cls, rollup: str) -> Pss:
        """From the text of smaps_rollup."""
        figures = {}
        for line in rollup.splitlines()[1:]:
            name, _, rest = line.partition(":")
            figures[name] = int(rest.split()[0]) * 1024
        return cls(figures.get("Pss", 0), figures.get("Pss_Shmem", 0))

    def __add__(self, other: Pss) -> Pss:
        return Pss(self.total + other.total, self.shared + other.shared)


def pss_of(pids: Iterable[int], proc: Path = PROC) -> Pss:
    """The sum; a process that has ended meanwhile counts nothing."""
    found = Pss()
    for pid in pids:
        with suppress(OSError):
            found += Pss.of((proc / str(pid) / "smaps_rollup").read_text())
    return found


class PeakPss:
    """`async with`: looks again and again at the processes that `pids` names then."""

    def __init__(self, pids: Callable[[], Iterable[int]], every_s: float = EVERY_S) -> None:
        self.peak = Pss()
        self._pids = pids
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PeakPss:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._look()

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(self._every_s)

    def _look(self) -> None:
        self.peak = max(self.peak, pss_of(self._pids()), key=lambda pss: pss.total)
