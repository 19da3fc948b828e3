"""E: somebody streams, and somebody else comes with a long prompt."""

from __future__ import annotations

import asyncio

from ..answer import Answer
from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server, at_once
from ..target import Row
from ..workload import Workload

STREAM_PROMPT, STREAM_TOKENS = 32, 100
INTRUDER_PROMPT, INTRUDER_TOKENS = 1024, 8
COMES_AT_TOKEN = 20


class Intruder(Scenario):
    letter = "E"
    rows = (
        Row(
            "E gap",
            "1,024-token intruder: longest gap of a running stream",
            "ms",
            (QWEND, "gap_ms"),
            against_both("gap_ms"),
            ratio=0.03,
        ),
        Row(
            "E TTFT",
            "the intruder's TTFT",
            "ms",
            (QWEND, "intruder_ms"),
            against_both("intruder_ms"),
            ratio=1.3,
        ),
    )

    async def measure(self, server: Server, work: Workload) -> Measured:
        prompt, long_prompt = work.fresh(STREAM_PROMPT), work.fresh(INTRUDER_PROMPT)
        comes = asyncio.Event()

        async def intrude() -> Answer:
            await comes.wait()
            return await server.stream(long_prompt, INTRUDER_TOKENS)

        def follow(count: int) -> None:
            if count >= COMES_AT_TOKEN:
                comes.set()

        stream, late = await at_once(
            server.stream(prompt, STREAM_TOKENS, on_tokens=follow), intrude()
        )
        begin = stream.first_at_s
        return Measured(
            {"gap_ms": [max(stream.gaps_ms)], "intruder_ms": [late.ttft_ms]},
            {
                "arrivals_s": [at - begin for _, at in stream.times.arrivals],
                "intruder_sent_s": late.times.sent_s - begin,
                "intruder_first_s": late.first_at_s - begin,
            },
        )
