"""Whether an engine is alive: what it says and answers, against the time we listened.

Owns the silence of one engine process. Knows nothing of processes: who kills it is the supervisor.

A sign of life is any event. An engine that has nothing to say is asked, and answers between two
steps; so a prefill may take as long as it likes, as long as each of its steps ends. An engine that
answers that it has work, and says nothing of that work for long, does not get on: it hangs too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from qwend.engine.events import Alive, Event

# Looks in the time after which silence means hung: enough that one late look does not matter.
LOOKS = 5
# While it loads it answers nothing, and tells of itself when a tensor is there or a trial of the
# calibration is over: 140 MB from an SD card at 20 MB/s take 7 s. And so for work without events.
PATIENCE = 6
# No step may be called hung that takes this many times what it was calibrated to: at a depth of
# 4,000 tokens and beside other programs it takes 2 to 4 times as long.
SLOWEST_STEP = 8.0


class EnginePulse:
    """Of one process: `heard` for all it says, `look` every `interval_s`."""

    def __init__(self, hung_after_s: float) -> None:
        self.hung_after_s = hung_after_s
        self._limit_s = hung_after_s * PATIENCE  # until it is ready
        self._silent_s = 0.0
        self._stuck_s = 0.0
        self._looked: float | None = None

    @property
    def interval_s(self) -> float:
        return self.hung_after_s / LOOKS

    def ready(self, description: Mapping[str, Any], rows: int) -> None:
        """It answers from now on. description: with `step_ms`; rows: the most of a step."""
        self._limit_s = max(self.hung_after_s, SLOWEST_STEP * _longest_step_s(description, rows))
        self._stuck_s = 0.0

    def heard(self, events: Iterable[Event]) -> None:
        for event in events:
            self._silent_s = 0.0
            if not (isinstance(event, Alive) and event.working):
                self._stuck_s = 0.0

    def look(self, now: float) -> str:
        """Why it counts as hung; empty if it does not.

        Time in which we ourselves were stopped, with the machine or by a signal, is not counted.
        """
        since = now - self._looked if self._looked is not None else 0.0
        self._looked = now
        self._silent_s += min(since, 2 * self.interval_s)
        self._stuck_s += min(since, 2 * self.interval_s)
        if self._silent_s >= self._limit_s:
            return f"no sign of life for {self._silent_s:.0f} s"
        if self._stuck_s >= self._limit_s * PATIENCE:
            return f"it has work, and has not got on with it for {self._stuck_s:.0f} s"
        return ""


def _longest_step_s(description: Mapping[str, Any], rows: int) -> float:
    """Seconds of a step of so many rows, by the largest step that was measured."""
    measured: Mapping[int, float] = description.get("step_ms", {})
    if not measured:
        return 0.0
    most = max(measured)
    return measured[most] / 1e3 * max(rows / most, 1.0)
