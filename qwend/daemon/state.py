"""How the daemon is, in one word, and why not better.

    STARTING -> WARMING -> READY <-> DEGRADED -> DRAINING        FAILED from anywhere

Owns the word and its reasons. One writer: the front's event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Condition(StrEnum):
    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(slots=True)
class DaemonState:
    """stage: what is being done now, for people.

    degraded: what works less well than it could, until the daemon is started again. passing: what
    may be over at any time, by who watches it.
    """

    condition: Condition = Condition.STARTING
    stage: str = "starting"
    degraded: list[str] = field(default_factory=list)
    drained: bool = False  # an administrator wants no new requests
    asleep: str = ""  # why the model was let go of; the next request loads it again
    passing: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def regard(self, watched: str, reasons: Iterable[str]) -> None:
        """Now these are the reasons of this kind; none: it is over."""
        self.passing[watched] = tuple(reasons)

    @property
    def reasons(self) -> list[str]:
        """All there are now to be better."""
        return [*self.degraded, *(one for some in self.passing.values() for one in some)]

    def move(self, condition: Condition, stage: str) -> None:
        # A drain is not undone by an engine that comes back meanwhile.
        if self.condition is not Condition.DRAINING:
            self.condition = condition
            self.stage = stage

    @property
    def word(self) -> str:
        """What `status` says: `ready` with reasons to be better is `degraded`, and no word for one
        that takes no requests."""
        if self.condition is Condition.READY and self.drained:
            return Condition.DRAINING
        if self.condition is Condition.READY and self.reasons:
            return Condition.DEGRADED
        return self.condition
