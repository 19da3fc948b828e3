"""What both processes take, each second: memory, descriptors, threads; and how fast it goes.

Owns the samples. Memory is RssAnon + VmSwap (proc_pid_status(5)): what a leak shows in, and no file
that is mapped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .ledger import Ledger
from .service import Service
from .trend import Sample

PROC = Path("/proc")
EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Taken:
    """Of one process: bytes and counts; all 0 if it is not there."""

    pid: int = 0
    memory_bytes: int = 0
    fds: int = 0
    threads: int = 0

    @classmethod
    def by(cls, pid: int, proc: Path = PROC) -> Taken:
        if not pid:
            return cls()
        with suppress(OSError):
            fields = dict(
                line.split(":", 1) for line in (proc / str(pid) / "status").read_text().splitlines()
            )
            memory = sum(int(fields.get(key, "0").split()[0]) for key in ("RssAnon", "VmSwap"))
            fds = len(os.listdir(proc / str(pid) / "fd"))
            return cls(pid, memory << 10, fds, int(fields["Threads"]))
        return cls()


@dataclass(frozen=True, slots=True)
class Look:
    """at_s: since the load began. tokens: that clients have got so far. kept: in the store.

    machine_load: processes that want a CPU, of the last minute (proc_loadavg(5)).
    """

    at_s: float
    front: Taken
    engine: Taken
    tokens: int
    kept: int
    disk_bytes: int
    machine_load: float = 0.0

    def as_map(self) -> dict[str, Any]:
        return asdict(self)


async def watch(
    service: Service, ledger: Ledger, looks: list[Look], disk_bytes: Callable[[], int]
) -> None:
    """Add a look each second, for ever."""
    while True:
        looks.append(
            Look(
                ledger.clock(),
                Taken.by(service.pid),
                Taken.by(service.engine_pid()),
                ledger.tokens,
                service.kept,
                disk_bytes(),
                os.getloadavg()[0],
            )
        )
        await asyncio.sleep(EVERY_S)


def of_the_last(
    looks: list[Look], which: Callable[[Look], Taken], *, from_age_s: float
) -> list[Sample]:
    """Memory of the process that was there at the end, from so many seconds of its age on."""
    pids = [which(look).pid for look in looks if which(look).pid]
    if not pids:
        return []
    own = [look for look in looks if which(look).pid == pids[-1]]
    begin = own[0].at_s + from_age_s
    return [(look.at_s, which(look).memory_bytes) for look in own if look.at_s >= begin]


def at_the_ends(
    looks: list[Look], which: Callable[[Look], Taken], *, least_age_s: float
) -> list[Sample]:
    """Memory of each process in its last look, of those that became so old: equal age, about."""
    lives: dict[int, list[Look]] = {}
    for look in looks:
        if which(look).pid:
            lives.setdefault(which(look).pid, []).append(look)
    return [
        (life[-1].at_s, which(life[-1]).memory_bytes)
        for life in lives.values()
        if life[-1].at_s - life[0].at_s >= least_age_s
    ]
