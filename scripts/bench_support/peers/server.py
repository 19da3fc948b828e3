"""A server under measurement: its process, its home, and how it is asked; of either make.

Rule 1: whoever starts it ends it: SIGTERM, and SIGKILL if that is not enough (llama-server does
not always end on SIGTERM); also after Ctrl-C.
Rule 2: this file does not know protocols.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..llama_build import log_end
from .answer import Answer

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.005
# A 4,096-token prompt takes half a minute here; ten times that is no answer any more.
ANSWER_TIMEOUT_S = 600.0
MEMORY_DISK = Path("/dev/shm")

OnTokens = Callable[[int], object]


class ServerFailed(Exception):
    """A server did not start, ended, or refused the workload; the text ends with its log.

    what: the same in one line.
    """

    def __init__(self, what: str, log: str) -> None:
        super().__init__(f"{what}; the end of its log:\n{log}" if log else what)
        self.what = what


@dataclass(frozen=True, slots=True)
class Setup:
    """What all servers of a run have in common. peer: llama-server; yardstick: llama-bench."""

    model: Path
    threads: int
    context: int
    peer: Path | None
    yardstick: Path | None


class Server(ABC):
    """Not running at first; `start` and `stop` may alternate, its home stays until `close`."""

    def __init__(self, side: str, setup: Setup) -> None:
        self.side = side
        self.setup = setup
        self.process: subprocess.Popen[bytes] | None = None
        # In memory where there is such a place: a copy that the daemon keeps warm is to be there.
        parent = MEMORY_DISK if MEMORY_DISK.is_dir() else None
        self._home = tempfile.TemporaryDirectory(prefix="qwend-bench-", dir=parent)
        self.home = Path(self._home.name)

    @abstractmethod
    def _spawn(self) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    async def is_ready(self) -> bool: ...

    async def takes_requests(self) -> bool:
        """Whether it would answer a request that is sent now, if not at once."""
        return await self.is_ready()

    @abstractmethod
    async def stream(
        self,
        prompt: list[int],
        tokens: int,
        *,
        on_tokens: OnTokens = lambda count: None,
        limit_s: float | None = None,
    ) -> Answer:
        """Decode `tokens` tokens after `prompt`; after limit_s take what has come until then."""

    @abstractmethod
    async def chat(self, system: str, text: str, tokens: int) -> Answer:
        """One message of a user, with the server's own template."""

    @property
    @abstractmethod
    def log(self) -> Path: ...

    def start(self) -> None:
        """Start the process and return at once."""
        assert self.process is None, "it runs already"
        self.process = self._spawn()

    async def started(self) -> None:
        """Start it and wait until it is ready. Raises: ServerFailed."""
        self.start()
        await self.until(self.is_ready)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Raises: ServerFailed if the process ends, or START_TIMEOUT_S is over, before that."""
        begin = time.monotonic()
        while not await condition():
            self.check_alive()
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise self.failed(f"not ready after {START_TIMEOUT_S:.0f} s")
            await asyncio.sleep(POLL_S)

    def check_alive(self) -> None:
        """Raises: ServerFailed if the process has ended."""
        if self.process is not None and self.process.poll() is not None:
            raise self.failed(f"it ended with status {self.process.returncode}")

    def failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self.side}: {what}", log_end(self.log))

    def stop(self) -> None:
        """End it if it runs; a second call does nothing."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            for each in _family(process.pid):
                with suppress(psutil.Error):
                    each.kill()
            process.wait()

    def close(self) -> None:
        self.stop()
        self._home.cleanup()

    @abstractmethod
    def pause(self) -> None:
        """Have it use no CPU while another is measured."""

    @abstractmethod
    def resume(self) -> None:
        """The end of `pause`."""

    def processes(self) -> list[psutil.Process]:
        """All of them that are alive now, the first one first."""
        return _family(self.process.pid) if self.process is not None else []

    def memory_files_bytes(self) -> int:
        """What files in memory its home holds, such as a warm copy of the model."""
        if self.home.parent != MEMORY_DISK:
            return 0
        return sum(
            path.stat().st_blocks * 512 for path in self.home.rglob("*") if path.is_file()
        )  # st_blocks is in units of 512 bytes, inode(7)

    def cpu_s(self) -> float:
        """CPU time that those alive have used, in seconds."""
        used = 0.0
        for process in self.processes():
            with suppress(psutil.Error):
                used += sum(process.cpu_times()[:2])
        return used


async def at_once(*asked: Coroutine[Any, Any, Answer]) -> list[Answer]:
    """All answers; if one fails, the others are given up and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in asked]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _family(pid: int) -> list[psutil.Process]:
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.Error:
        return []
