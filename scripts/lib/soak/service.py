"""The daemon as a service: what systemd does for it, so that its front may die.

Owns the process, its socket and its descriptor store; starts the next front when one has ended,
with what was kept. The sockets and the store are those of the tests' systemd; here it runs beside
an event loop and never blocks it.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.daemon.fake_systemd import FakeSystemd

# Ten times what it takes on two busy cores.
READY_S = 120.0
LOOK_S = 0.05
ENGINE_MODULE = "qwend.engine.worker"


class ServiceFailed(Exception):
    """The text has the daemon's log."""


@dataclass(slots=True)
class Downtime:
    """One death of the front: when, how, and when the next one was ready; seconds of the clock."""

    died_at: float
    how: str
    wanted: bool
    ready_at: float = 0.0


class Service:
    """clock: CLOCK_MONOTONIC in seconds. settings: QWEND_* variables."""

    def __init__(
        self,
        systemd: FakeSystemd,
        settings: dict[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.deaths: list[Downtime] = []
        self._systemd = systemd
        self._settings = settings
        self._clock = clock
        self._ready = asyncio.Event()
        self._wanted = False
        self._stopping = False
        self._watcher: asyncio.Task[None] | None = None

    @property
    def socket(self) -> Path:
        return Path(self._systemd.listener.getsockname())

    @property
    def pid(self) -> int:
        process = self._systemd.process
        return process.pid if process is not None else 0

    @property
    def kept(self) -> int:
        """Descriptors in the store."""
        return len(self._systemd.store)

    @property
    def log(self) -> str:
        return self._systemd.log

    def engine_pid(self) -> int:
        """0 while there is none."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.pid).children():
                if any(ENGINE_MODULE in part for part in child.cmdline()):
                    return int(child.pid)
        return 0

    async def start(self) -> None:
        """Return once it has said READY=1. Raises: ServiceFailed."""
        asyncio.get_running_loop().add_reader(self._systemd.notified.fileno(), self._hear)
        self._launch()
        assert self._systemd.process is not None
        end = self._clock() + READY_S
        while not self._ready.is_set():
            status = self._systemd.process.poll()
            if status is not None or self._clock() > end:
                raise ServiceFailed(f"the daemon did not start ({status}): {self.log[-3000:]}")
            await asyncio.sleep(LOOK_S)
        self._watcher = asyncio.create_task(self._watch())

    def signal_front(self, number: signal.Signals) -> None:
        if number not in (signal.SIGSTOP, signal.SIGCONT):
            self._wanted = True
        assert self._systemd.process is not None
        self._systemd.process.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM, as `systemctl stop`; return the exit status."""
        self._stopping = True
        process = self._systemd.process
        assert process is not None
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, READY_S)
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
            asyncio.get_running_loop().remove_reader(self._systemd.notified.fileno())

    def _launch(self) -> None:
        self._ready.clear()
        self._systemd.start(None, QWEND_ENGINE_BACKEND="llama", QWEND_SCRIPT="", **self._settings)

    async def _watch(self) -> None:
        while not self._stopping:
            process = self._systemd.process
            assert process is not None
            # Known before it dies: afterwards they are nobody's children.
            family = await asyncio.to_thread(_wait_with_children, process.pid, process.wait)
            if self._stopping:
                return
            death = Downtime(self._clock(), _how(process.returncode), self._wanted)
            self.deaths.append(death)
            self._wanted = False
            # systemd ends what is left of the service before it starts it again.
            await asyncio.to_thread(_end, family)
            self._hear()
            self._launch()
            await self._ready.wait()
            death.ready_at = self._clock()

    def _hear(self) -> None:
        self._systemd.listen()
        if any("READY=1" in message for message in self._systemd.said):
            self._ready.set()
        self._systemd.said.clear()


def _wait_with_children(pid: int, wait: Callable[[float], int]) -> list[psutil.Process]:
    """Wait for the end; return the children that it had a moment before."""
    family: list[psutil.Process] = []
    while True:
        with suppress(psutil.Error):
            family = psutil.Process(pid).children(recursive=True) or family
        with suppress(subprocess.TimeoutExpired):
            wait(0.1)
            return family


def _end(family: list[psutil.Process]) -> None:
    for process in family:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, READY_S)


def _how(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit {status}"
