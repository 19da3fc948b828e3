"""What a step costs by its rows, its outputs and the cells in use: measured, corrected as it runs.

Owns the table and its corrections; knows nothing of sequences and measures nothing itself. The
scheduler asks how many rows fit into a time budget, so that no stream waits longer than that for
its next token, and whether draft rows pay.

    seconds = correction x (table(rows) + outputs(sampled) + slope x (rows + 2) x used cells)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from qwend.engine.depth_slope import DepthSlope

# Weight of the newest observation in the running correction: follows a change of the machine's
# speed within about ten steps and shrugs off a single step that was descheduled.
OBSERVATION_WEIGHT = 0.1
# A correction beyond this says more about one bad moment than about the machine.
CORRECTION_RANGE = (0.25, 8.0)
# Repacked kernels multiply tiles of 4 rows, and each row that is left over by itself: 0.5B takes
# 33 ms for 3 rows and 34 ms for 4, 107 ms for 15 and 87 ms for 16 (x86-64, AVX2, two cores).
TILE = 4
# The fourth row of a tile is about free where it takes less than this part of what the second and
# the third take: 1 ms against 7 ms there, and as much as they take where there are no tiles.
FREE_ROW = 1 / 3


class StepCost:
    """Seconds per step: linear between measured points and beyond the last."""

    def __init__(
        self,
        measured: Mapping[int, float],
        *,
        all_sampled: Mapping[int, float] | None = None,
        cell_s: float = 0.0,
    ) -> None:
        """measured: rows -> seconds with logits of one row; at least one entry, rows ≥ 1.

        all_sampled: rows -> seconds with logits of every row, for rows that are in `measured`.
        cell_s: what each used cell adds for each of rows + 2; 0: unknown, to be learnt.
        """
        assert measured, "a cost table needs one measurement"
        self._measured = dict(sorted(measured.items()))
        self._all_sampled = dict(sorted((all_sampled or {}).items()))
        self.tile = self._find_tile()
        # The rows left over after the last whole tile go through the kernels one by one.
        self._single_row_s = self._row_beyond_one() if self.tile > 1 else 0.0
        self._rows = _Line(self._measured)
        self._outputs = _Line(
            {1: 0.0}
            | {
                rows: seconds - self._measured[rows]
                for rows, seconds in self._all_sampled.items()
                if rows > 1 and rows in self._measured
            }
        )
        self._depth = DepthSlope(cell_s, self._rows.at(1))
        self.correction = 1.0

    @property
    def cell_s(self) -> float:
        """What one used cell adds to a step for each of its rows + 2, in seconds."""
        return self._depth.cell_s

    def calibrated(self, rows: int, sampled: int = 1, used_cells: int = 0) -> float:
        """Seconds as measured on the quiet machine, without the running correction."""
        return self._flat(rows, sampled) + self._depth.seconds(rows, used_cells)

    def seconds(self, rows: int, sampled: int = 1, used_cells: int = 0) -> float:
        """sampled: rows of these with logits. used_cells: of all sequences together."""
        return self.calibrated(rows, sampled, used_cells) * self.correction

    def rows_within(
        self, budget_s: float, limit: int, *, sampled: int = 0, used_cells: int = 0
    ) -> int:
        """The most rows, up to `limit`, that a step of `budget_s` can take; may be 0.

        sampled: decode rows that are already in the step, and count among the rows.
        """

        def fits(rows: int) -> bool:
            return self.seconds(rows, max(sampled, 1), used_cells) <= budget_s

        # Whole tiles cost the more the more they are; only what is left over may cost more than
        # one tile more.
        low, high = 0, limit // self.tile
        while low < high:
            middle = (low + high + 1) // 2
            if fits(middle * self.tile):
                low = middle
            else:
                high = middle - 1
        rows = low * self.tile
        while rows < limit and fits(rows + 1):
            rows += 1
        return rows

    def filled(self, rows: int, limit: int) -> int:
        """`rows` rounded up to whole tiles, where that costs next to nothing and is allowed."""
        whole = -(-rows // self.tile) * self.tile
        return whole if whole <= limit else rows

    def speculation_gain(
        self,
        drafts: int,
        acceptance: float,
        *,
        rows: int = 1,
        sampled: int = 1,
        used_cells: int = 0,
    ) -> float:
        """Tokens per second with `drafts` draft rows against without, expected; above 1: it pays.

        acceptance: how likely a draft token is right when all before it are.
        rows, sampled: what the step has without drafts, one sampled row at least.
        """
        tokens = sampled + sum(acceptance**at for at in range(1, drafts + 1))
        without_s = self.seconds(rows, sampled, used_cells)
        with_s = self.seconds(rows + drafts, sampled + drafts, used_cells)
        return tokens / sampled * without_s / max(with_s, 1e-9)

    def observe(self, rows: int, seconds: float, *, sampled: int = 1, used_cells: int = 0) -> None:
        """Correct the table by a step that was just run: heat and company change it, and depth."""
        flat = max(self._flat(rows, sampled), 1e-9)
        deep = max(self.calibrated(rows, sampled, used_cells), 1e-9)
        self._depth.observe(rows, used_cells, flat, seconds / (deep * self.correction))
        least, most = CORRECTION_RANGE
        ratio = min(max(seconds / deep, least), most)
        self.correction += OBSERVATION_WEIGHT * (ratio - self.correction)

    def to_map(self) -> dict[str, Any]:
        """The measurements, for `from_map`; JSON makes text of the row counts."""
        return {
            "rows": self._measured,
            "all_sampled": self._all_sampled,
            "cell_s": self._depth.measured_s,
        }

    @classmethod
    def from_map(cls, fields: Mapping[str, Any]) -> StepCost:
        """Raises: ValueError, TypeError, KeyError, AttributeError for what `to_map` never said."""
        rows = _table(fields["rows"])
        cell_s = float(fields["cell_s"])
        if not rows or not 0.0 <= cell_s < 1.0:
            raise ValueError("no cost table")
        return cls(rows, all_sampled=_table(fields["all_sampled"]), cell_s=cell_s)

    def _flat(self, rows: int, sampled: int) -> float:
        """Seconds without what the used cells add."""
        if rows <= 0:
            return 0.0
        left_over = rows % self.tile if rows > self.tile else 0
        seconds = self._rows.at(rows - left_over) + left_over * self._single_row_s
        return seconds + (self._outputs.at(min(sampled, rows)) if sampled > 1 else 0.0)

    def _find_tile(self) -> int:
        if not {1, TILE - 1, TILE} <= self._measured.keys():
            return 1
        fourth_s = self._measured[TILE] - self._measured[TILE - 1]
        single_s = self._row_beyond_one()
        return TILE if single_s > 0 and fourth_s < FREE_ROW * single_s else 1

    def _row_beyond_one(self) -> float:
        """What each row after the first adds within a tile."""
        return (self._measured[TILE - 1] - self._measured[1]) / (TILE - 2)


class _Line:
    """Linear between the points and beyond the last, and never falling: noise can make a longer
    step look cheaper, and a budget needs costs that only rise."""

    def __init__(self, points: Mapping[int, float]) -> None:
        self._x = sorted(points)
        self._y = list(accumulate((max(points[x], 0.0) for x in self._x), max))

    def at(self, x: int) -> float:
        at = bisect_left(self._x, x)
        if at == 0:
            return self._y[0]
        if at == len(self._x):
            if at == 1:
                return self._y[0] * x / self._x[0]
            at -= 1
        left, right = self._x[at - 1], self._x[at]
        slope = (self._y[at] - self._y[at - 1]) / (right - left)
        return self._y[at - 1] + slope * (x - left)


def _table(fields: Mapping[Any, Any]) -> dict[int, float]:
    table = {int(rows): float(seconds) for rows, seconds in fields.items()}
    # A step of an hour is no measurement, and neither is one of no time, nor NaN.
    if not all(rows > 0 and 0.0 < seconds < 3600.0 for rows, seconds in table.items()):
        raise ValueError("no table of seconds by rows")
    return table
