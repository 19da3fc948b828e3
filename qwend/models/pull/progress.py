"""What a pull tells of itself while it runs, and the rate that it is going at.

Values only: who shows them, and how, is the caller's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

# Long enough to not jump with each burst, short enough to follow a network that changes.
_WINDOW_S = 8.0


@dataclass(frozen=True, slots=True)
class Progress:
    """stage: asking, fetching, waiting, rereading, joining, checking, done.

    file: what is under way now; part, parts: which of how many files. done_bytes, total_bytes: of
    all of them. total_bytes 0: not known. rate: bytes a second, 0 while unknown.
    remaining_s: None while unknown.
    """

    stage: str
    file: str = ""
    part: int = 1
    parts: int = 1
    done_bytes: int = 0
    total_bytes: int = 0
    rate: float = 0.0
    remaining_s: float | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """progress: told often. notice: told a sentence that a person should read."""

    progress: Callable[[Progress], None] = lambda progress: None
    notice: Callable[[str], None] = lambda sentence: None


class Rate:
    """Bytes a second over the last seconds. clock: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done_bytes: int) -> float:
        """Told how far it is; returns the rate."""
        now = self._clock()
        if self._seen and done_bytes < self._seen[-1][1]:
            self._seen.clear()  # begun anew
        self._seen.append((now, done_bytes))
        while now - self._seen[0][0] > _WINDOW_S and len(self._seen) > 2:
            self._seen.popleft()
        began, first = self._seen[0]
        return (done_bytes - first) / (now - began) if now > began else 0.0
