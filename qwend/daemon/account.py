"""An account: what one user has running and waiting, and how many tokens it has had.

Owns the figures of one uid. Knows nothing of the limits that they are held against.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from qwend.daemon.journal import Entry
from qwend.engine.request import Priority

MINUTE_S = 60.0


@dataclass(slots=True, eq=False)
class Account:
    """waiting: interactive ones first, each kind in the order in which it came.

    deficit: tokens it may have before others have their turn; below zero: it had more than others.
    used_s: CLOCK_MONOTONIC of its last request.
    """

    uid: int
    used_s: float
    running: Counter[Priority] = field(default_factory=Counter)
    waiting: list[Entry] = field(default_factory=list)
    deficit: float = 0.0
    _spent: float = 0.0  # tokens; leaks at the rate of the limit, which makes it a bucket
    _spent_s: float = 0.0

    def spend(self, tokens: int, per_minute: int, now: float) -> None:
        """Count tokens against the limit. It is paid afterwards: nobody knows an answer's length
        before, and none that has begun is cut short."""
        if per_minute:
            self._spent = self._left(per_minute, now) + tokens
            self._spent_s = now

    def over_for_s(self, per_minute: int, now: float) -> float:
        """Seconds until it may ask again; 0: now."""
        over = self._left(per_minute, now) - per_minute
        return (over + 1) * MINUTE_S / per_minute if per_minute and over >= 0 else 0.0

    def forgettable(self, per_minute: int, now: float) -> bool:
        """Nothing is left to remember of it: after a minute its turn may be anybody's."""
        if self.waiting or self.running.total() or now - self.used_s <= MINUTE_S:
            return False
        return not per_minute or not self._left(per_minute, now)

    def _left(self, per_minute: int, now: float) -> float:
        return max(0.0, self._spent - (now - self._spent_s) * per_minute / MINUTE_S)
