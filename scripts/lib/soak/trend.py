"""How much a figure grows: a line through samples, by least squares. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Sample = tuple[float, float]
"""When, in seconds, and how much."""


def slope(samples: Sequence[Sample]) -> float:
    """Growth per second; 0 where there are not two moments."""
    count = len(samples)
    if count < 2:
        return 0.0
    mid_x = sum(x for x, _ in samples) / count
    mid_y = sum(y for _, y in samples) / count
    spread = sum((x - mid_x) ** 2 for x, _ in samples)
    if not spread:
        return 0.0
    return sum((x - mid_x) * (y - mid_y) for x, y in samples) / spread
