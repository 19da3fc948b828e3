"""A row of the table: what is compared with what, and when it counts as held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..spread import Spread

Source = tuple[str, str]
"""Where figures come from: (side, name of the figure)."""

Values = Mapping[Source, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Row:
    """What is to be shown, in `unit`.

    ratio: bound of ours / theirs; at_most: bound of ours alone; each may be None.
    theirs: name for the table -> figures; the best of them is what ours is compared with.
    percent: which percentile of the figures speaks for a side; 50 is the median.
    """

    name: str
    text: str
    unit: str
    ours: Source
    theirs: Mapping[str, Source]
    more_is_better: bool = False
    ratio: float | None = None
    at_most: float | None = None
    percent: float = 50

    @property
    def target(self) -> str:
        parts = []
        if self.at_most is not None:
            parts.append(f"≤ {self.at_most:g} {self.unit}")
        if self.ratio is not None:
            parts.append(f"{'≥' if self.more_is_better else '≤'} {self.ratio:g}")
        return " and ".join(parts)

    def figure(self, spread: Spread) -> float:
        return spread.median if self.percent == 50 else spread.percentile(self.percent)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One row, judged. held: None where a part of the target could not be compared."""

    row: Row
    ours: Spread | None
    theirs: Spread | None
    theirs_name: str
    ratio: float | None
    held: bool | None
    note: str = ""


def judge(row: Row, values: Values, note: str = "") -> Verdict:
    """note: why there is no figure, if there is none."""
    ours = _spread(values.get(row.ours))
    rivals = [(name, _spread(values.get(source))) for name, source in row.theirs.items()]
    found = [(name, spread) for name, spread in rivals if spread is not None]
    theirs_name, theirs = "", None
    if found:
        best = max if row.more_is_better else min
        theirs_name, theirs = best(found, key=lambda rival: row.figure(rival[1]))
    ratio = None
    if ours is not None and theirs is not None and row.figure(theirs) > 0:
        ratio = row.figure(ours) / row.figure(theirs)
    return Verdict(row, ours, theirs, theirs_name, ratio, _held(row, ours, ratio), note)


def _held(row: Row, ours: Spread | None, ratio: float | None) -> bool | None:
    """False as soon as one part is missed, True only if all parts are known and met."""
    parts: list[bool | None] = []
    if row.at_most is not None:
        parts.append(None if ours is None else row.figure(ours) <= row.at_most)
    if row.ratio is not None and ratio is not None:
        parts.append(ratio >= row.ratio if row.more_is_better else ratio <= row.ratio)
    elif row.ratio is not None:
        parts.append(None)
    if False in parts:
        return False
    return True if parts and None not in parts else None


def _spread(figures: Sequence[float] | None) -> Spread | None:
    return Spread.of(figures) if figures else None
