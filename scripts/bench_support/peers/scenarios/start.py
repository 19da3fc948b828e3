"""A: from nothing to the first token."""

from __future__ import annotations

import time

from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server
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
        await server.until(server.takes_requests)
        answer = await server.stream(work.fresh(PROMPT_TOKENS), 1)
        server.stop()
        return Measured({"first_s": [answer.first_at_s - begin]})
