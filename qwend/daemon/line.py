"""A line: the way to the engine of one resident model, across that engine's deaths.

Owns what is known of that engine now. What was begun over one line goes on over the same line, for
no other model can; see broker.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from qwend.engine.events import Gauges

SendToEngine = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """How far a model is that requests wait for, as `progress` tells it."""

    stage: Literal["waiting", "loading"]
    done: int
    total: int


@dataclass(slots=True, eq=False)
class Line:
    """model: tells the weights that answer from all others. send: None while no engine is ready.

    arrival: how far the model is that is being loaded; None: it is there, or nobody loads it.
    wake: has a model loaded that was let go; None where that is not needed, or under way.
    """

    model: str = ""
    send: SendToEngine | None = None
    gauges: Gauges | None = None
    arrival: Arrival | None = None
    wake: Callable[[], None] | None = None
