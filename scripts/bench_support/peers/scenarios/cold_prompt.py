"""D and L: prompts that nobody has seen, one for four clients at once, and a long one alone."""

from __future__ import annotations

from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server, at_once
from ..target import Row
from ..workload import Workload

CLIENTS = 4
SHARED_TOKENS = 512
OWN_TOKENS = 8
LONG_TOKENS = 4096


class SharedColdPrompt(Scenario):
    letter = "D"
    rows = (
        Row(
            "D",
            "4 clients at once, same cold 512-token prompt: slowest TTFT",
            "ms",
            (QWEND, "slowest_ms"),
            against_both("slowest_ms"),
            ratio=0.35,
        ),
    )

    async def measure(self, server: Server, work: Workload) -> Measured:
        shared = work.shared(SHARED_TOKENS)
        prompts = [shared + work.fresh(OWN_TOKENS) for _ in range(CLIENTS)]
        answers = await at_once(*[server.stream(prompt, 16) for prompt in prompts])
        return Measured({"slowest_ms": [max(answer.ttft_ms for answer in answers)]})


class LongPrompt(Scenario):
    letter = "L"
    rows = (
        Row(
            "L",
            "a 4,096-token prompt alone: TTFT",
            "ms",
            (QWEND, "ttft_ms"),
            against_both("ttft_ms"),
            ratio=0.97,
        ),
    )

    async def measure(self, server: Server, work: Workload) -> Measured:
        answer = await server.stream(work.fresh(LONG_TOKENS), 1)
        return Measured({"ttft_ms": [answer.ttft_ms]})
