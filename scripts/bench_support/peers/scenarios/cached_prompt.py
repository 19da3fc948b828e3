"""B and B2: a prompt whose beginning is known, also from before a restart."""

from __future__ import annotations

from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server
from ..target import Row
from ..workload import Workload

NEW_TOKENS = 16
REPEATS = 8


class CachedPrompt(Scenario):
    letter = "B"
    rows = (
        Row(
            "B",
            "TTFT, 200 cached + 16 new tokens",
            "ms",
            (QWEND, "ttft_ms"),
            against_both("ttft_ms"),
            ratio=0.95,
        ),
    )

    async def prepare(self, server: Server) -> None:
        await server.started()
        await server.stream(Workload(self.letter, -1).system(), 2)

    async def measure(self, server: Server, work: Workload) -> Measured:
        system = work.system()
        answers = [await server.stream(system + work.fresh(NEW_TOKENS), 4) for _ in range(REPEATS)]
        return Measured({"ttft_ms": [answer.ttft_ms for answer in answers]})


class AfterRestart(Scenario):
    letter = "B2"
    rows = (
        Row(
            "B2",
            "the same after a restart of the server",
            "ms",
            (QWEND, "ttft_ms"),
            against_both("ttft_ms"),
            ratio=0.15,
        ),
    )

    async def prepare(self, server: Server) -> None:
        """Each turn starts it itself."""

    async def measure(self, server: Server, work: Workload) -> Measured:
        await server.started()
        system = work.system()
        await server.stream(system + work.fresh(NEW_TOKENS), 4)
        server.stop()
        await server.started()
        answer = await server.stream(system + work.fresh(NEW_TOKENS), 4)
        server.stop()
        return Measured({"ttft_ms": [answer.ttft_ms]})
