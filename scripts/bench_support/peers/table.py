"""The verdicts as one Markdown table, aligned so that it can also be read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from ..spread import Spread
from .target import Row, Verdict

HEADINGS = ("", "scenario", "ours", "theirs", "ratio", "target", "held")
HELD = {True: "yes", False: "**no**", None: "-"}


def table(verdicts: Sequence[Verdict]) -> str:
    """Figures are `median (lowest-highest)`, or the percentile that the row names."""
    lines = [HEADINGS, *(_cells(verdict) for verdict in verdicts)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    rule = "|".join("-" * (width + 2) for width in widths)
    drawn = ["| " + " | ".join(_padded(line, widths)) + " |" for line in lines]
    return "\n".join([drawn[0], f"|{rule}|", *drawn[1:]])


def _cells(verdict: Verdict) -> tuple[str, ...]:
    row = verdict.row
    if verdict.ours is None:
        return (row.name, row.text, verdict.note or "not measured", "", "", row.target, "-")
    theirs = ""
    if verdict.theirs is not None:
        theirs = f"{_figure(row, verdict.theirs)}, {verdict.theirs_name}"
    ratio = "" if verdict.ratio is None else f"{verdict.ratio:.3g}"
    ours = _figure(row, verdict.ours)
    if verdict.note:
        ours = f"{ours}; {verdict.note}"
    return (row.name, row.text, ours, theirs, ratio, row.target, HELD[verdict.held])


def _figure(row: Row, spread: Spread) -> str:
    figure = row.figure(spread)
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    if row.percent != 50:
        return f"{figure:.{digits}f} {row.unit} (p{row.percent:g} of {len(spread.values)})"
    low, high = spread.values[0], spread.values[-1]
    return f"{figure:.{digits}f} {row.unit} ({low:.{digits}f}-{high:.{digits}f})"


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
