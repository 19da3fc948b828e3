"""The plots of docs/benchmarks.md, drawn from what `--json` writes.

Rule 1: what is drawn is taken from the result alone, so that it can be drawn again without
measuring.
Rule 2: the same result gives the same file: no date, no random ids.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .llama_server import SHIPPED, TUNED
from .qwend_server import QWEND

COLOURS = {QWEND: "#1b7f5c", SHIPPED: "#b5563c", TUNED: "#d9a441"}
# Rows that are waits for a first token, in milliseconds.
WAITS = ("B", "B2", "B3", "D", "E TTFT", "L", "J")

Points = tuple[list[float], list[float]]


def draw_all(result: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw what the result has figures for; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, draw in (("intruder", _intruder), ("ttft", _ttft), ("step-cost", _step_cost)):
        figure = draw(result)
        if figure is not None:
            drawn.append(directory / f"{name}.svg")
            figure.savefig(drawn[-1], metadata={"Date": None})
    return drawn


def gaps(arrivals_s: Sequence[float]) -> Points:
    """When each delivery came (s), and how long after the one before (ms)."""
    return list(arrivals_s[1:]), [(after - before) * 1e3 for before, after in pairwise(arrivals_s)]


def typical_part(parts: Sequence[Mapping[str, Any]], side: str, name: str) -> Any:
    """Of the turns of one side, the one with the median of the figure; None if there is none."""
    ranked = sorted(
        (part for part in parts if part["side"] == side and part["figures"].get(name)),
        key=lambda part: float(statistics.median(part["figures"][name])),
    )
    return ranked[(len(ranked) - 1) // 2] if ranked else None


def scenario_parts(result: Mapping[str, Any], letter: str) -> list[Mapping[str, Any]]:
    return [
        part
        for scenario in result["scenarios"]
        if scenario["scenario"] == letter
        for part in scenario["parts"]
    ]


def _intruder(result: Mapping[str, Any]) -> Any:
    parts = scenario_parts(result, "E")
    if not parts:
        return None
    figure, axes = _canvas("time since the stream's first token, s", "gap between tokens, ms")
    for side in (SHIPPED, TUNED, QWEND):
        part = typical_part(parts, side, "gap_ms")
        if part is None:
            continue
        detail = part["detail"]
        axes.plot(*gaps(detail["arrivals_s"]), ".-", label=side, color=COLOURS[side], lw=0.8, ms=4)
        axes.axvline(detail["intruder_first_s"], color=COLOURS[side], lw=0.8, ls=":")
    axes.set_yscale("log")
    axes.set_title("A stream when a 1,024-token prompt comes (dotted: the intruder's first token)")
    axes.legend()
    return figure


def _ttft(result: Mapping[str, Any]) -> Any:
    rows = [row for row in result["rows"] if row["row"] in WAITS and row["ours"] is not None]
    if not rows:
        return None
    figure, axes = _canvas("", "time to first token, ms")
    for shift, key, side in ((-0.2, "ours", QWEND), (0.2, "theirs", SHIPPED)):
        found = [(index + shift, row[key]) for index, row in enumerate(rows) if row[key]]
        if not found:
            continue
        bars = axes.bar(*zip(*found, strict=True), width=0.38, label=side, color=COLOURS[side])
        axes.bar_label(bars, fmt="{:.0f}", fontsize=8)
    axes.set_xticks(range(len(rows)), [row["row"] for row in rows])
    axes.set_yscale("log")
    axes.set_ylim(bottom=1)
    axes.set_title("Time to first token by scenario, medians; llama-server: its better variant")
    axes.legend()
    return figure


def _step_cost(result: Mapping[str, Any]) -> Any:
    costs = result.get("step_ms") or {}
    if not costs:
        return None
    figure, axes = _canvas("rows in a step", "ms")
    for name, by_rows in costs.items():
        points = sorted((int(rows), float(ms)) for rows, ms in by_rows.items())
        axes.plot(*zip(*points, strict=True), ".-", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title("Cost of a step by rows, as calibrated at start")
    axes.legend()
    return figure


def _canvas(across: str, upwards: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    # Text stays text, which is small and can be searched; ids come from this salt, not from chance.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "qwend"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    axes.set_xlabel(across)
    axes.set_ylabel(upwards)
    axes.grid(visible=True, alpha=0.3)
    return figure, axes
