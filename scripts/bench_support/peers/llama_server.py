"""llama-server, as it is shipped or tuned, on a Unix socket."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from ..stream_times import StreamTimes
from .answer import Answer
from .event_stream import HttpFault, exchange, is_healthy
from .server import ANSWER_TIMEOUT_S, OnTokens, Server, Setup
from .workload import SAMPLER

SHIPPED, TUNED = "llama-server", "llama-server, tuned"
FLAGS: dict[str, list[str]] = {
    SHIPPED: [],
    TUNED: ["-kvu", "-b", "512", "-ub", "512", "-np", "8", "--cache-ram", "2048"],
}


class LlamaServer(Server):
    def __init__(self, side: str, setup: Setup) -> None:
        super().__init__(side, setup)
        # llama-server takes a host that ends so for the path of a socket.
        self.socket = str(self.home / "peer.sock")

    @property
    def log(self) -> Path:
        return self.home / "log"

    def _spawn(self) -> subprocess.Popen[bytes]:
        setup = self.setup
        assert setup.peer is not None
        command = [str(setup.peer), "-m", str(setup.model), "--host", self.socket]
        command += ["-t", str(setup.threads), "-tb", str(setup.threads), "-c", str(setup.context)]
        command += ["-lv", "1", *FLAGS[self.side]]
        Path(self.socket).unlink(missing_ok=True)  # what a killed one has left
        with self.log.open("ab") as output:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    async def is_ready(self) -> bool:
        return await is_healthy(self.socket)

    def pause(self) -> None:
        # Its threads look for work for a while after the last token, and it has timers.
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    async def stream(
        self,
        prompt: list[int],
        tokens: int,
        *,
        on_tokens: OnTokens = lambda count: None,
        limit_s: float | None = None,
    ) -> Answer:
        body = {
            "prompt": prompt,
            "n_predict": tokens,
            "stream": True,
            "ignore_eos": True,
            "cache_prompt": True,
            **sampler(),
        }
        return await self._ask("/completion", body, on_tokens, limit_s)

    async def chat(self, system: str, text: str, tokens: int) -> Answer:
        messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
        body = {"messages": messages, "max_tokens": tokens, "stream": True, "ignore_eos": True}
        return await self._ask("/v1/chat/completions", {**body, **sampler()}, None, None)

    async def _ask(
        self, path: str, body: dict[str, Any], on_tokens: OnTokens | None, limit_s: float | None
    ) -> Answer:
        arrivals: list[tuple[int, float]] = []
        complete = False
        try:
            async with exchange(self.socket) as connection:
                sent_s = time.monotonic()
                try:
                    async with asyncio.timeout(limit_s or ANSWER_TIMEOUT_S):
                        connection.send(path, body)
                        async for event in connection.events():
                            complete = is_last(event)
                            if complete:
                                break
                            # Chunks of a chat have no count; only the first one's time is wanted.
                            count = event.get("tokens_predicted", len(arrivals) + 1)
                            arrivals.append((count, time.monotonic()))
                            if on_tokens is not None:
                                on_tokens(count)
                except TimeoutError:
                    if limit_s is None:
                        raise self.failed(f"no end after {ANSWER_TIMEOUT_S:.0f} s") from None
        except (OSError, HttpFault) as error:
            raise self.failed(str(error)) from error
        if not (arrivals and complete) and limit_s is None:
            raise self.failed(f"its answer broke off after {len(arrivals)} events")
        return Answer(StreamTimes(sent_s, tuple(arrivals)))


def is_last(event: dict[str, Any]) -> bool:
    """Whether it ends the answer; such an event has no token. Of both kinds of stream."""
    choices = event.get("choices") or [{}]
    return bool(event.get("stop") or choices[0].get("finish_reason"))


def sampler() -> dict[str, Any]:
    return {**SAMPLER, "samplers": ["top_k", "top_p", "temperature"]}
