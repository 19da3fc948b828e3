"""A: from nothing to the first token."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from qwend.client import AsyncClient, ClientError

from ..llama_server import LlamaServer
from ..qwend_server import QWEND, QwendServer
from ..scenario import Measured, Scenario, against_both
from ..server import POLL_S, Server
from ..target import Row
from ..workload import Workload

PROMPT_TOKENS = 16


class Start(Scenario):
    """Process start to first token at the client; a run before has warmed copy and page cache."""

    letter = "A"
    rows = (
        Row(
            "A",
            "start → first token",
            "s",
            (QWEND, "first_s"),
            against_both("first_s"),
            ratio=1.0,
        ),
    )

    async def prepare(self, server: Server) -> None:
        await super().prepare(server)
        server.stop()

    async def measure(self, server: Server, work: Workload) -> Measured:
        begin = time.monotonic()
        server.start()
        await _can_be_asked(server)
        answer = await server.stream(work.fresh(PROMPT_TOKENS), 1)
        server.stop()
        return Measured({"first_s": [answer.first_at_s - begin]})


async def _can_be_asked(server: Server) -> None:
    """Each in its own way: qwend listens once it is ready, llama-server says so at /health."""
    while True:
        server.check_alive()
        if isinstance(server, QwendServer):
            with suppress(ClientError):
                async with AsyncClient(server.socket):
                    return
        elif isinstance(server, LlamaServer) and await server.is_ready():
            return
        await asyncio.sleep(POLL_S)
