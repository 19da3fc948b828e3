"""A server without a model: a process that sleeps, and answers that come at once.

With it scenarios and the runner are tested in milliseconds.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

from ..stream_times import StreamTimes
from .answer import Answer
from .server import OnTokens, Server, Setup

SETUP = Setup(Path("no-model"), threads=2, context=8192, peer=None, yardstick=None)


class ScriptedServer(Server):
    """calls: what was asked of it, in order. fails_at: the number of the stream that fails."""

    def __init__(self, side: str, setup: Setup = SETUP, *, fails_at: int = 0) -> None:
        super().__init__(side, setup)
        self.calls: list[str] = []
        self.prompts: list[list[int]] = []
        self._fails_at = fails_at

    @property
    def log(self) -> Path:
        return self.home / "log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.calls.append("start")
        self.log.write_text("all is well\n")
        return subprocess.Popen(["sleep", "60"])

    async def is_ready(self) -> bool:
        return self.process is not None

    def stop(self) -> None:
        self.calls.append("stop")
        super().stop()

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    async def stream(
        self,
        prompt: list[int],
        tokens: int,
        *,
        on_tokens: OnTokens = lambda count: None,
        limit_s: float | None = None,
    ) -> Answer:
        assert self.process is not None
        self.calls.append("stream")
        self.prompts.append(list(prompt))
        if len(self.prompts) == self._fails_at:
            raise self.failed("no more")
        sent_s, arrivals = time.monotonic(), []
        for count in range(1, tokens + 1):
            await asyncio.sleep(0)
            arrivals.append((count, time.monotonic()))
            on_tokens(count)
        return Answer(StreamTimes(sent_s, tuple(arrivals)))

    async def chat(self, system: str, text: str, tokens: int) -> Answer:
        return await self.stream([len(system), len(text)], tokens)
