"""Carries the schedule out: signals to the engine and the front, and a full disk.

Owns the undo of each fault, which comes also if the run ends in the middle of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from qwend.daemon.supervisor import DEATHS_WINDOW_S, MOST_DEATHS

from .aftermath import status_of
from .ledger import Ledger
from .raw_connection import NotGreeted
from .schedule import Fault, Kind, most_within
from .service import Service
from .small_disk import SmallDisk
from .survival import Happened

LOOK_S = 0.1
# A little longer than the daemon's minute: it counts from when it sees a death. And one death less
# than it takes: a machine that is very busy may have an engine killed that only was slow.
WINDOW_S = DEATHS_WINDOW_S + 3.0


class Injector:
    """done: how often each kind was carried out. say: tells of each as it comes.

    back_s: for an engine or a front to be there again, at most.
    """

    def __init__(
        self,
        service: Service,
        ledger: Ledger,
        disk: SmallDisk,
        back_s: float,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.done: Counter[Kind] = Counter()
        self.told: list[str] = []
        self._deaths: list[float] = []
        self._service = service
        self._ledger = ledger
        self._disk = disk
        self._back_s = back_s
        self._say = say

    async def run(self, faults: Sequence[Fault]) -> None:
        """Return when the last is over; when cancelled, after the undo of those under way."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                await asyncio.sleep(max(0.0, fault.at_s - self._ledger.clock()))
                group.create_task(self._inflict(fault))

    async def _inflict(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL_ENGINE:
                await self._engine_dies(fault, getattr(signal, fault.signal))
            case Kind.HANG_ENGINE:
                await self._engine_dies(fault, signal.SIGSTOP)
            case Kind.STOP_ENGINE:
                await self._stop(fault, await self._ready_engine(), Happened.ENGINE_STOPPED)
            case Kind.STOP_FRONT:
                await self._stop(fault, self._service.pid, Happened.FRONT_STOPPED)
            case Kind.KILL_FRONT:
                await self._front_dies(fault)
            case Kind.FILL_DISK:
                await self._fill_disk(fault)

    async def _engine_dies(self, fault: Fault, number: signal.Signals) -> None:
        """By a signal, or, when it is stopped, by the daemon that finds it hanging.

        Never so often that the daemon is right to give up: what was late waits a little more.
        """
        while most_within([*self._deaths, self._ledger.clock()], WINDOW_S) > MOST_DEATHS - 1:
            await asyncio.sleep(LOOK_S)
        self._deaths.append(self._ledger.clock())
        pid = await self._ready_engine()
        if not pid:
            self._tell(fault, "there was no engine")
            return
        with self._ledger.episode(Happened.ENGINE_KILLED):
            self._tell(fault, f"engine {pid}")
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            self.done[fault.kind] += 1
            await self._until(lambda: self._service.engine_pid() not in (0, pid))
            await self._ready_engine()

    async def _stop(self, fault: Fault, pid: int, what: Happened) -> None:
        with self._ledger.episode(what), suppress(ProcessLookupError):
            self._tell(fault, f"process {pid}")
            if not pid:
                return
            os.kill(pid, signal.SIGSTOP)
            self.done[fault.kind] += 1
            try:
                await asyncio.sleep(fault.for_s)
            finally:
                os.kill(pid, signal.SIGCONT)

    async def _front_dies(self, fault: Fault) -> None:
        before = len(self._service.deaths)
        with self._ledger.episode(Happened.FRONT_KILLED):
            self._tell(fault, f"front {self._service.pid}")
            self._service.signal_front(getattr(signal, fault.signal))
            self.done[fault.kind] += 1
            deaths = self._service.deaths
            await self._until(lambda: len(deaths) > before and bool(deaths[before].ready_at))

    async def _fill_disk(self, fault: Fault) -> None:
        with self._ledger.episode(Happened.DISK_FULL):
            self._tell(fault, f"{self._disk.used_bytes() >> 20} MiB were in use")
            self._disk.fill()
            self.done[fault.kind] += 1
            try:
                await asyncio.sleep(fault.for_s)
            finally:
                self._disk.empty()

    async def _ready_engine(self) -> int:
        """Its pid, once the daemon says that it answers; 0 if that takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._back_s):
                while True:
                    with suppress(NotGreeted, OSError):
                        engine = (await status_of(self._service))["engine"]
                        if engine.get("state") == "ready" and engine.get("pid"):
                            return int(engine["pid"])
                    await asyncio.sleep(LOOK_S)
        return 0

    async def _until(self, condition: Callable[[], bool]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._back_s):
                while not condition():
                    await asyncio.sleep(LOOK_S)

    def _tell(self, fault: Fault, more: str) -> None:
        line = f"{self._ledger.clock():7.2f} s  {str(fault).split('s  ', 1)[1]}: {more}"
        self.told.append(line)
        self._say(line)
