"""What the used cells add to a step: a slope measured at start and fitted on while running.

Owns that one number. A start has no time to fill thousands of cells, so the first value rests on
one shallow measurement, and steps at other depths correct it.
"""

from __future__ import annotations

# To read the cells at all costs as much as two rows more: without flash attention, 0.5B takes 11,
# 22, 61, 195 and 520 ms more for 1, 4, 16, 64 and 128 rows at 4,096 used cells than at 1,024,
# which is (rows + 2) x 3,072 x 1.2 µs within a quarter (x86-64, AVX2, two cores).
READING_ROWS = 2
# The usual slope, which gives the fit its scale: 1,000 used cells make a one-row step a fifth
# longer (0.5B, as above).
USUAL_SHARE_OF_ONE_ROW = 0.2 / 1000 / (1 + READING_ROWS)
# The fitted slope stays within this many times the usual one: that is a one-row step three times
# as long at 1,000 used cells, and no model that is worth running does that.
MOST = 10.0
# Forgets within some fifty steps at changed depths; a hundred tokens more or less teach nothing.
FORGETTING = 0.98
# What the measurement at start weighs: as much as six steps whose length depth changes by 40 %.
PRIOR_WEIGHT = 1.0
# One step that took twice or half as long as expected was disturbed: it counts no more than that.
CLIPPED = (0.5, 2.0)
# How fast the usual depth follows, the same as the running correction of StepCost: what both have
# already absorbed says nothing about the slope.
USUAL_WEIGHT = 0.1


class DepthSlope:
    """Recursive least squares of one factor, with forgetting, around the usual depth."""

    def __init__(self, measured_s: float, one_row_s: float) -> None:
        """measured_s: seconds per used cell and per row + 2; 0: not measured."""
        self.measured_s = measured_s
        self._unit_s = USUAL_SHARE_OF_ONE_ROW * max(one_row_s, 1e-9)
        self._factor = min(measured_s / self._unit_s, MOST)
        self._usual = 0.0
        self._evidence = 0.0

    @property
    def cell_s(self) -> float:
        return self._unit_s * self._factor

    def seconds(self, rows: int, used_cells: int) -> float:
        return self.cell_s * (rows + READING_ROWS) * used_cells if rows > 0 else 0.0

    def observe(self, rows: int, used_cells: int, flat_s: float, ratio: float) -> None:
        """flat_s: the step without its depth. ratio: seconds taken / seconds expected."""
        share = self._unit_s * (rows + READING_ROWS) * used_cells / flat_s
        beyond = share - self._usual
        self._usual += USUAL_WEIGHT * beyond
        self._evidence = FORGETTING * self._evidence + beyond * beyond
        low, high = CLIPPED
        error = (min(max(ratio, low), high) - 1.0) * (1.0 + self._factor * share)
        factor = self._factor + error * beyond / (self._evidence + PRIOR_WEIGHT)
        self._factor = min(max(factor, 0.0), MOST)
