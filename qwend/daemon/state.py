"""How the daemon is, in one word, and why not better.

    STARTING -> WARMING -> READY <-> DEGRADED -> DRAINING        FAILED from anywhere

Owns the word and its reasons. One writer: the front's event loop.
"""

from __future__ import annotations

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
    """stage: what is being done now, for people. degraded: what works less well than it could."""

    condition: Condition = Condition.STARTING
    stage: str = "starting"
    degraded: list[str] = field(default_factory=list)

    def move(self, condition: Condition, stage: str) -> None:
        # A drain is not undone by an engine that comes back meanwhile.
        if self.condition is not Condition.DRAINING:
            self.condition = condition
            self.stage = stage

    @property
    def word(self) -> str:
        """What `status` says: `ready` with reasons to be better is `degraded`."""
        if self.condition is Condition.READY and self.degraded:
            return Condition.DEGRADED
        return self.condition
