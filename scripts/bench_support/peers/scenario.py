"""A scenario: what is asked of every side, and the rows of the table that come of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .llama_server import SHIPPED, TUNED, LlamaServer
from .qwend_server import QWEND, QwendServer
from .server import Server, Setup
from .target import Row, Source
from .workload import Workload


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one side in one turn. figures: name -> values. detail: for the plots, as JSON can say."""

    figures: Mapping[str, Sequence[float]]
    detail: Mapping[str, Any] = field(default_factory=dict)


class Scenario(ABC):
    """letter: as the targets name it. tapped: qwend notes when each token was made.

    undo: of what was done to the host; run when the servers have gone, whatever happened.
    """

    letter: ClassVar[str]
    rows: ClassVar[Sequence[Row]]
    sides: ClassVar[Sequence[str]] = (QWEND, SHIPPED, TUNED)
    tapped: ClassVar[bool] = False

    def __init__(self) -> None:
        self.undo = ExitStack()

    def unavailable(self) -> str:
        """Why it cannot be measured here and now; empty if it can."""
        return ""

    async def prepare(self, server: Server) -> None:
        """Once per side, before the first turn: start it and put there what is to be there."""
        await server.started()
        await server.stream(Workload(self.letter, -1).fresh(16), 2)

    @abstractmethod
    async def measure(self, server: Server, work: Workload) -> Measured:
        """One turn of one side."""

    def finish(self, server: Server) -> Mapping[str, Sequence[float]]:
        """Once per side, after the last turn; may stop the server."""
        return {}

    def server(self, side: str, setup: Setup) -> Server:
        if side == QWEND:
            return QwendServer(setup, tapped=self.tapped)
        return LlamaServer(side, setup)


def against_both(key: str) -> dict[str, Source]:
    """Whichever of llama-server's two variants does better in the row."""
    return {"as shipped": (SHIPPED, key), "tuned": (TUNED, key)}
