"""Figures with their spread: never a single number, never an average that hides a gap."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample, sorted."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            raise ValueError("there is nothing to summarize")
        return cls(tuple(sorted(values)))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, percent: float) -> float:
        """The smallest value that `percent` of the sample do not exceed (nearest rank)."""
        rank = -(-len(self.values) * percent // 100)
        return self.values[max(0, int(rank) - 1)]

    def as_map(self, *percents: float) -> dict[str, float | int]:
        chosen = {f"p{percent:g}": self.percentile(percent) for percent in percents}
        return {
            "n": len(self.values),
            "min": self.values[0],
            "median": self.median,
            "max": self.values[-1],
            **chosen,
        }

    def __format__(self, spec: str) -> str:
        """`median (min-max)`, each in `spec`."""
        low, high = self.values[0], self.values[-1]
        return f"{self.median:{spec}} ({low:{spec}}-{high:{spec}})"
