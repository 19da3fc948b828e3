"""The report of a run: what was reached, what was found, and the figures, as Markdown and JSON.

Owns the words. Writes into a directory: `soak.md`, `soak.json`, `daemon.log`, and plots where
matplotlib is installed.
"""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .bars import (
    LEAST_LIVES,
    LEAST_TREND_S,
    Bar,
    fault_bars,
    promise_bars,
    quality_bars,
    slope_bar,
)
from .plots import draw
from .run import Outcome
from .watch import Look, Taken, at_the_ends, of_the_last

# A front remembers the ends of answers for 60 s, and its notes until there is 1 MiB to sweep;
# Python keeps the arenas of 1 MiB that its busiest moments took. At 1,200 requests a minute it grew
# from 22.6 to 29.1 MiB in 160 s, by 0.5 in the next 60 and by nothing in the 20 after (two x86-64
# cores, November 2026). An engine fills its prefix cache.
FRONT_WARM_S, ENGINE_OLD_S = 160.0, 10.0


def front(look: Look) -> Taken:
    return look.front


def engine(look: Look) -> Taken:
    return look.engine


def judge(outcome: Outcome) -> list[Bar]:
    """All bars of the run. Warm-up: the first tenth of it, and the beginning of each process."""
    minutes = outcome.options.minutes if not outcome.interrupted else outcome.seconds / 60
    looks = [look for look in outcome.looks if look.at_s >= outcome.seconds / 10]
    fronts = of_the_last(looks, front, from_age_s=FRONT_WARM_S)
    engines = at_the_ends(looks, engine, least_age_s=ENGINE_OLD_S)
    return [
        *fault_bars(outcome.injector, minutes, disk=outcome.disk),
        *promise_bars(outcome.ledger),
        *quality_bars(outcome.ledger),
        slope_bar("memory of the front", fronts, int(LEAST_TREND_S)),
        slope_bar("memory of engines at their end", engines, LEAST_LIVES),
    ]


def write(outcome: Outcome, directory: Path) -> list[Bar]:
    """Write everything; return the bars."""
    directory.mkdir(parents=True, exist_ok=True)
    bars = judge(outcome)
    plots = draw(outcome, directory)
    (directory / "soak.md").write_text(markdown(outcome, bars, plots))
    (directory / "soak.json").write_text(json.dumps(as_map(outcome, bars), indent=1) + "\n")
    (directory / "daemon.log").write_text(outcome.log)
    return bars


def summary(bars: list[Bar]) -> str:
    """A line for each bar, as a terminal shows it."""
    return "\n".join(f"{_word(bar):5}{bar.name:40}{bar.wanted:>14}   {bar.reached}" for bar in bars)


def missed(bars: list[Bar]) -> list[Bar]:
    return [bar for bar in bars if bar.held is False]


def markdown(outcome: Outcome, bars: list[Bar], plots: list[Path]) -> str:
    ledger, options = outcome.ledger, outcome.options
    lines = [
        f"# Soak of {outcome.seconds / 60:.1f} minutes, seed {options.seed}",
        "",
        "Ended early by Ctrl-C." if outcome.interrupted else "",
        f"{sum(ledger.endings.values())} requests, {ledger.tokens} tokens "
        f"({ledger.tokens / max(outcome.seconds, 1):.0f} a second, faults included), "
        f"{ledger.recoveries} streams went on with another engine, "
        f"{len(outcome.service.deaths)} fronts ended; {outcome.kept.turns} turns were kept in "
        f"{len(outcome.kept.said)} sessions. "
        f"{outcome.oracle.left_out} questions were left out: their answer hangs on rounding.",
        "",
        "| | bar | wanted | reached |",
        "|---|---|---|---|",
        *(f"| {_word(bar)} | {bar.name} | {bar.wanted} | {bar.reached} |" for bar in bars),
        "",
        *([] if plots else ["No plots: matplotlib is not installed (`pip install .[bench]`).", ""]),
        *(f"![{plot.stem}]({plot.name})" for plot in plots),
        "",
        "## Findings",
        "",
        *(f"- {one.at_s:.2f} s, {one.kind}: {one.text}" for one in ledger.findings[:200]),
        *([] if ledger.findings else ["None."]),
        "",
        "## How requests ended",
        "",
        "| request | end | times |",
        "|---|---|---|",
        *(f"| {op} | {how} | {n} |" for (op, how), n in sorted(ledger.endings.items())),
        "",
        "| end | allowed because | times |",
        "|---|---|---|",
        *(f"| {how} | {why} | {n} |" for (how, why), n in sorted(ledger.reasons.items())),
        "",
        "## Waits",
        "",
        *_waits(outcome),
        "",
        "## Faults",
        "",
        "```",
        *outcome.injector.told,
        "```",
        "",
    ]
    return "\n".join(lines)


def as_map(outcome: Outcome, bars: list[Bar]) -> dict[str, Any]:
    ledger = outcome.ledger
    return {
        "minutes": outcome.seconds / 60,
        "seed": outcome.options.seed,
        "interrupted": outcome.interrupted,
        "bars": [asdict(bar) for bar in bars],
        "findings": [asdict(one) for one in ledger.findings],
        "endings": [[op, how, n] for (op, how), n in sorted(ledger.endings.items())],
        "reasons": [[how, why, n] for (how, why), n in sorted(ledger.reasons.items())],
        "tokens": ledger.tokens,
        "recoveries": ledger.recoveries,
        "longest_silence_s": ledger.longest_silence_s,
        "pings_s": ledger.pings_s,
        "deaths": [asdict(one) for one in outcome.service.deaths],
        "episodes": [asdict(one) for one in ledger.episodes],
        "looks": [look.as_map() for look in outcome.looks],
    }


def _waits(outcome: Outcome) -> list[str]:
    ledger = outcome.ledger
    loads = [look.machine_load for look in outcome.looks] or [0.0]
    gone = [one.ready_at - one.died_at for one in outcome.service.deaths if one.ready_at]
    return [
        f"- load of the machine: {statistics.median(loads):.1f} in the middle, {max(loads):.1f} at "
        f"most, on {os.cpu_count()} CPUs",
        f"- longest silence in a stream that was read: {ledger.longest_silence_s:.2f} s",
        f"- ping: {_spread(ledger.pings_s)}",
        f"- front gone until ready again: {_spread(gone)}",
    ]


def _spread(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    ranked = sorted(seconds)
    p99 = ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))]
    return (
        f"{len(ranked)} times, median {statistics.median(ranked) * 1e3:.1f} ms, "
        f"p99 {p99 * 1e3:.0f} ms, longest {ranked[-1] * 1e3:.0f} ms"
    )


def _word(bar: Bar) -> str:
    return {True: "ok", False: "MISS", None: "-"}[bar.held]
