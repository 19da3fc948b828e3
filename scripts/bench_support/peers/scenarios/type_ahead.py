"""B3: from Enter to the first token, for a message that was typed before."""

from __future__ import annotations

import asyncio

from ..qwend_server import QWEND, QwendServer, can_type_ahead
from ..scenario import Measured, Scenario, against_both
from ..server import Server
from ..target import Row
from ..workload import SYSTEM_TEXT, Workload

MESSAGE_TOKENS = 40
# What a client sees of somebody who types: the text grows by a few words at a time.
TYPED_AT_ONCE = 8
PAUSE_S = 0.5  # the scenario's own: how long somebody looks at what they wrote before Enter
REPEATS = 3


class TypeAhead(Scenario):
    letter = "B3"
    rows = (
        Row(
            "B3",
            "40-token message, 0.5 s after the last key: Enter → first token",
            "ms",
            (QWEND, "ttft_ms"),
            against_both("ttft_ms"),
            ratio=0.15,
            at_most=15,
        ),
    )

    def unavailable(self) -> str:
        return "" if can_type_ahead() else "not available: no type-ahead in this tree's client"

    async def prepare(self, server: Server) -> None:
        await server.started()
        await server.chat(SYSTEM_TEXT, "hello", 2)

    async def measure(self, server: Server, work: Workload) -> Measured:
        ttft_ms = []
        for _ in range(REPEATS):
            message = work.message(MESSAGE_TOKENS)
            if isinstance(server, QwendServer):
                *grown, whole = _typed(message)
                for text in grown:
                    await server.type_ahead(SYSTEM_TEXT, text)
                # The pause begins with the last key, not with the answer to it.
                last = asyncio.create_task(server.type_ahead(SYSTEM_TEXT, whole))
                await asyncio.sleep(PAUSE_S)
                ttft_ms.append((await server.chat(SYSTEM_TEXT, message, 2)).ttft_ms)
                await last
            else:
                await asyncio.sleep(PAUSE_S)
                ttft_ms.append((await server.chat(SYSTEM_TEXT, message, 2)).ttft_ms)
        return Measured({"ttft_ms": ttft_ms})


def _typed(message: str) -> list[str]:
    """The text as it grows; the last one is all of it."""
    words = message.split()
    ends = range(TYPED_AT_ONCE, len(words) + TYPED_AT_ONCE, TYPED_AT_ONCE)
    return [" ".join(words[:end]) for end in ends]
