"""The plots of a run: memory, descriptors, throughput over time, with the faults as lines."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import Any

from .run import Outcome
from .survival import Happened

COLOURS = {
    Happened.ENGINE_KILLED: "#b5563c",
    Happened.FRONT_KILLED: "#7b2d8b",
    Happened.ENGINE_STOPPED: "#d9a441",
    Happened.FRONT_STOPPED: "#d9a441",
    Happened.DISK_FULL: "#4a7fb5",
}
MIB = 1 << 20


def draw(outcome: Outcome, directory: Path) -> list[Path]:
    """The files; none where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None or not outcome.looks:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    looks = outcome.looks
    at = [look.at_s for look in looks]
    front = [(look.front, "front") for look in looks]
    engine = [(look.engine, "engine") for look in looks]
    figure, (memory, fds, speed) = pyplot.subplots(
        3, 1, figsize=(11, 9), sharex=True, layout="constrained"
    )
    for taken in (front, engine):
        name = taken[0][1]
        memory.plot(at, [_or_gap(t.memory_bytes / MIB, t.pid) for t, _ in taken], label=name, lw=1)
        fds.plot(at, [_or_gap(t.fds, t.pid) for t, _ in taken], label=f"{name}, descriptors", lw=1)
        fds.plot(
            at, [_or_gap(t.threads, t.pid) for t, _ in taken], ":", label=f"{name}, threads", lw=1
        )
    fds.plot(at, [look.kept for look in looks], label="kept in the store", lw=0.8)
    speed.plot(
        at[1:],
        [(b.tokens - a.tokens) / max(b.at_s - a.at_s, 1e-3) for a, b in pairwise(looks)],
        lw=1,
        color="#1b7f5c",
    )
    memory.set_ylabel("RssAnon + VmSwap, MiB")
    fds.set_ylabel("descriptors, threads")
    speed.set_ylabel("tokens/s, all clients")
    speed.set_xlabel("seconds")
    for axes in (memory, fds, speed):
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        _mark(axes, outcome)
    memory.set_title("brown: engine killed; purple: front killed; yellow: stopped; blue: disk full")
    memory.legend(loc="upper right")
    fds.legend(loc="upper right", ncols=2)
    file = directory / "soak.png"
    figure.savefig(file, dpi=90)
    pyplot.close(figure)
    return [file]


def _or_gap(value: float, pid: int) -> float:
    return value if pid else float("nan")


def _mark(axes: Any, outcome: Outcome) -> None:
    for one in outcome.ledger.episodes:
        if one.what is Happened.DISK_FULL:
            axes.axvspan(one.begin_s, one.end_s or one.begin_s, color=COLOURS[one.what], alpha=0.2)
        elif one.what in COLOURS:
            axes.axvline(one.begin_s, color=COLOURS[one.what], lw=0.8, alpha=0.6)
