"""J: more conversations than the context has room for, in turns."""

from __future__ import annotations

from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server
from ..target import Row
from ..workload import Workload

CONVERSATIONS, TOKENS_EACH, NEW_TOKENS, DECODED = 12, 1000, 16, 4


class Conversations(Scenario):
    """Each grows by NEW_TOKENS in a turn; the answers are not kept in it, for any side."""

    letter = "J"
    rows = (
        Row(
            "J",
            "12 conversations of 1,000 tokens in turns, 16 new each: TTFT",
            "ms",
            (QWEND, "ttft_ms"),
            against_both("ttft_ms"),
            ratio=0.6,
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[str, list[list[int]]] = {}

    async def prepare(self, server: Server) -> None:
        await super().prepare(server)
        work = Workload(self.letter, -1)
        held = [work.conversation(index, TOKENS_EACH) for index in range(CONVERSATIONS)]
        for prompt in held:
            await server.stream(prompt, DECODED)
        self._held[server.side] = held

    async def measure(self, server: Server, work: Workload) -> Measured:
        ttft_ms = []
        for prompt in self._held[server.side]:
            prompt += work.fresh(NEW_TOKENS)
            ttft_ms.append((await server.stream(prompt, DECODED)).ttft_ms)
        return Measured({"ttft_ms": ttft_ms})
