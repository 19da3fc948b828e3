"""I: speculation with a scripted draft, all of it right and none of it, against none at all."""

from __future__ import annotations

from collections.abc import Mapping

from ..qwend_server import QWEND, QwendServer
from ..scenario import Measured, Scenario
from ..server import Server, Setup
from ..target import Row, Source
from ..workload import Workload

PROMPT_TOKENS, DECODED = 16, 64
ALL_RIGHT, ALL_WRONG = f"{QWEND}, draft right", f"{QWEND}, draft wrong"
# Settings that put a scripted drafter in the place of the real one, for ALL_RIGHT and ALL_WRONG.
# The engine takes none yet: with these filled in the scenario runs.
DRAFTS: Mapping[str, Mapping[str, str]] = {}
WITHOUT: Mapping[str, str] = {"QWEND_ENGINE_SPECULATION": "false"}
OFF: Mapping[str, Source] = {"without a draft": (QWEND, "tokens_per_s")}


class Speculation(Scenario):
    letter = "I"
    rows = (
        Row(
            "I right",
            "speculation, all of a scripted draft accepted",
            "tokens/s",
            (ALL_RIGHT, "tokens_per_s"),
            OFF,
            more_is_better=True,
            ratio=1.5,
        ),
        Row(
            "I wrong",
            "speculation, none of a scripted draft accepted",
            "tokens/s",
            (ALL_WRONG, "tokens_per_s"),
            OFF,
            more_is_better=True,
            ratio=0.97,
        ),
    )
    sides = (QWEND, ALL_RIGHT, ALL_WRONG)

    def unavailable(self) -> str:
        return "" if DRAFTS else "not available: no drafter yet"

    def server(self, side: str, setup: Setup) -> Server:
        return QwendServer(setup, side=side, settings=DRAFTS.get(side, WITHOUT))

    async def measure(self, server: Server, work: Workload) -> Measured:
        answer = await server.stream(work.fresh(PROMPT_TOKENS), DECODED)
        return Measured({"tokens_per_s": [answer.tokens_per_s]})
