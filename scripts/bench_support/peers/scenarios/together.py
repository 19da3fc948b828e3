"""F: several streams at once."""

from __future__ import annotations

from ..answer import tokens_per_s_together
from ..qwend_server import QWEND
from ..scenario import Measured, Scenario, against_both
from ..server import Server, at_once
from ..target import Row
from ..workload import Workload

PROMPT_TOKENS, DECODED = 16, 48
SIZES = (4, 8)


def _row(streams: int) -> Row:
    key = f"tokens_per_s_of_{streams}"
    return Row(
        f"F {streams}",
        f"{streams} streams together",
        "tokens/s",
        (QWEND, key),
        against_both(key),
        more_is_better=True,
        ratio=1.05,
    )


class Together(Scenario):
    letter = "F"
    rows = tuple(_row(streams) for streams in SIZES)

    async def measure(self, server: Server, work: Workload) -> Measured:
        figures = {}
        for streams in SIZES:
            prompts = [work.fresh(PROMPT_TOKENS) for _ in range(streams)]
            answers = await at_once(*[server.stream(each, DECODED) for each in prompts])
            figures[f"tokens_per_s_of_{streams}"] = [tokens_per_s_together(answers)]
        return Measured(figures)
