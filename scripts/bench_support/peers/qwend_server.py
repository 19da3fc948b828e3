"""qwend, from this tree, in a home of its own."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qwend.client import AsyncClient, ClientError
from qwend.client.aio_stream import AsyncTokenStream

from ..daemon_under_test import start_daemon
from ..stream_times import StreamTimes
from .answer import Answer
from .server import ANSWER_TIMEOUT_S, OnTokens, Server, Setup
from .workload import SAMPLER

QWEND = "qwend"
TAP = "bench_support.tapped_daemon"
# Of `prefill`: the last message is still being written.
PARTIAL = "partial"


class QwendServer(Server):
    """tapped: note when each token was made, for `production_times`."""

    def __init__(
        self,
        setup: Setup,
        *,
        tapped: bool = False,
        settings: Mapping[str, str] | None = None,
        side: str = QWEND,
    ) -> None:
        super().__init__(side, setup)
        self._module = TAP if tapped else None
        self.settings = {
            "QWEND_MODEL_NAME": str(setup.model.absolute()),
            "QWEND_MODEL_CONTEXT": str(setup.context),
            "QWEND_ENGINE_THREADS": str(setup.threads),
            # All clients of a measurement are one user, and 8 of them ask at once.
            "QWEND_LIMITS_RUNNING_PER_UID": "8",
            **(settings or {}),
        }
        self.answers: list[Answer] = []
        """Of `stream`, in the order in which they began and ended: one after another."""

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def socket(self) -> Path:
        return self.home / "run" / "qwend.sock"

    def _spawn(self) -> subprocess.Popen[bytes]:
        return start_daemon(self.home, self.settings, self._module).process

    def pause(self) -> None:
        """Nothing to do: with nothing to compute it uses no CPU, and the runner looks at that."""

    def resume(self) -> None:
        pass

    async def is_ready(self) -> bool:
        try:
            async with AsyncClient(self.socket) as client:
                return (await client.status())["state"] in ("ready", "degraded")
        except ClientError:
            return False

    async def takes_requests(self) -> bool:
        try:
            async with AsyncClient(self.socket):
                return True
        except ClientError:
            return False

    async def status(self) -> Mapping[str, Any]:
        """Raises: ServerFailed."""
        try:
            async with AsyncClient(self.socket) as client:
                return await client.status()
        except ClientError as error:
            raise self.failed(str(error)) from error

    async def stream(
        self,
        prompt: list[int],
        tokens: int,
        *,
        on_tokens: OnTokens = lambda count: None,
        limit_s: float | None = None,
    ) -> Answer:
        async def ask(client: AsyncClient) -> AsyncTokenStream:
            return await client.complete(prompt, max_tokens=tokens, ignore_eos=True, **SAMPLER)

        answer = await self._ask(ask, on_tokens, limit_s)
        self.answers.append(answer)
        return answer

    async def chat(self, system: str, text: str, tokens: int) -> Answer:
        messages = conversation(system, text)

        async def ask(client: AsyncClient) -> AsyncTokenStream:
            return await client.chat(messages, max_tokens=tokens, ignore_eos=True, **SAMPLER)

        return await self._ask(ask, lambda count: None, None)

    async def type_ahead(self, system: str, text: str) -> None:
        """Have computed what a message begins with; `can_type_ahead` says whether it can."""
        options: dict[str, Any] = {PARTIAL: True}
        try:
            async with AsyncClient(self.socket) as client:
                await client.prefill(conversation(system, text), **options)
        except ClientError as error:
            raise self.failed(str(error)) from error

    def production_times(self) -> list[tuple[int, int, float]]:
        """What the tap has noted (see `tapped_daemon`); after `stop`."""
        return [tuple(note) for note in json.loads((self.home / "notes").read_text())]

    async def _ask(
        self,
        ask: Callable[[AsyncClient], Any],
        on_tokens: OnTokens,
        limit_s: float | None,
    ) -> Answer:
        arrivals: list[tuple[int, float]] = []
        try:
            async with AsyncClient(self.socket) as client:
                sent_s = time.monotonic()
                try:
                    async with asyncio.timeout(limit_s or ANSWER_TIMEOUT_S):
                        async for token in await ask(client):
                            if not token.ids:  # only text that had been held back
                                continue
                            arrivals.append((token.index + len(token.ids), time.monotonic()))
                            on_tokens(arrivals[-1][0])
                except TimeoutError:
                    if limit_s is None:
                        raise self.failed(f"no end after {ANSWER_TIMEOUT_S:.0f} s") from None
        except ClientError as error:
            raise self.failed(str(error)) from error
        if not arrivals and limit_s is None:
            raise self.failed("it answered without a token")
        return Answer(StreamTimes(sent_s, tuple(arrivals)))


def can_type_ahead() -> bool:
    """Whether the client of this tree has it."""
    return PARTIAL in inspect.signature(AsyncClient.prefill).parameters


def conversation(system: str, text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]
