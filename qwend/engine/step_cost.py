"""What a step costs by its rows, measured on this machine and corrected while running.

Owns the table and its correction; knows nothing of sequences. The scheduler asks how many rows
fit into a time budget, so that no stream waits longer than that for its next token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

# Weight of the newest observation in the running correction: follows a change of the machine's
# speed within about ten steps and shrugs off a single step that was descheduled.
OBSERVATION_WEIGHT = 0.1
# A correction beyond this says more about one bad moment than about the machine.
CORRECTION_RANGE = (0.25, 8.0)


class StepCost:
    """Seconds per step by number of rows: linear between measured points and beyond the last."""

    def __init__(self, measured: Mapping[int, float]) -> None:
        """measured: rows -> seconds, at least one entry, rows ≥ 1."""
        assert measured, "a cost table needs one measurement"
        self._rows = sorted(measured)
        # Noise can make a longer step look cheaper; a budget needs costs that only rise.
        self._seconds: list[float] = []
        for rows in self._rows:
            floor = self._seconds[-1] if self._seconds else 0.0
            self._seconds.append(max(measured[rows], floor))
        self.correction = 1.0

    def seconds(self, rows: int) -> float:
        return self._table(rows) * self.correction

    def rows_within(self, budget_s: float, limit: int) -> int:
        """The most rows, up to `limit`, that a step of `budget_s` can take; may be 0."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.seconds(middle) <= budget_s:
                low = middle
            else:
                high = middle - 1
        return low

    def observe(self, rows: int, seconds: float) -> None:
        """Correct the table by a step that was just run (depth, heat and company change it)."""
        ratio = seconds / max(self._table(rows), 1e-9)
        least, most = CORRECTION_RANGE
        ratio = min(max(ratio, least), most)
        self.correction += OBSERVATION_WEIGHT * (ratio - self.correction)

    def _table(self, rows: int) -> float:
        if rows <= 0:
            return 0.0
        at = bisect_left(self._rows, rows)
        if at == 0:
            return self._seconds[0]
        if at == len(self._rows):
            if at == 1:
                return self._seconds[0] * rows / self._rows[0]
            at -= 1
        left, right = self._rows[at - 1], self._rows[at]
        slope = (self._seconds[at] - self._seconds[at - 1]) / (right - left)
        return self._seconds[at - 1] + slope * (rows - left)
