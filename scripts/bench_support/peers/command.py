"""`bench peers`: the same workload on qwend and on llama-server, in turns, and one table.

Each scenario runs on qwend and on llama-server, as shipped and tuned; the better of both is what
qwend is compared with. docs/benchmarks.md says what each scenario is. llama-server is built from
the source that the engine was built from.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import psutil

from ..bench_model import bench_model
from ..llama_bench import llama_bench
from ..llama_build import llama_program
from ..llama_source import llama_version
from ..machine import this_machine
from .llama_server import SHIPPED, TUNED
from .plots import draw_all
from .runner import Outcome, Plan, run_scenario
from .scenarios.catalogue import LETTERS, SCENARIOS
from .scenarios.decode_speed import DecodeSpeed
from .server import ServerFailed, Setup
from .table import table

# Of the shape 0.5b with 8k of context one llama-server takes 0.8 GB, qwend 0.7 and its warm copy
# 0.35; in multiples of the model's file, 0.35 GB.
ROOM_FOR_ALL, ROOM_FOR_TWO = 8, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", default="llama-server", choices=["llama-server", "none"])
    parser.add_argument(
        "--only", type=_letters, metavar="A,B,...", help=f"of {', '.join(LETTERS)}; default: all"
    )
    parser.add_argument("--model", type=Path, help="GGUF to measure with; default: bench model")
    parser.add_argument("--shape", default="0.5b", choices=["0.5b", "1.5b", "3b", "7b"])
    parser.add_argument("--quant", default="Q4_0", choices=["Q4_0", "Q4_K_M", "Q8_0"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5, help="turns that count; all sides in each")
    parser.add_argument(
        "--attempts", type=int, help="turns at most, disturbed or not; default: twice --rounds"
    )
    parser.add_argument(
        "--patience", type=float, default=30.0, metavar="S", help="wait so long for a quiet machine"
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the plots here, as SVG")
    parser.add_argument(
        "--redraw", type=Path, metavar="FILE", help="measure nothing: plots from a former --json"
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure and print; returns what --json writes."""
    if options.redraw is not None:
        return _redrawn(options.redraw, options.plots or Path())
    setup = _setup(options)
    plan = Plan(
        turns=options.rounds,
        attempts=max(options.rounds, options.attempts or 2 * options.rounds),
        patience_s=options.patience,
        peers=_peers(setup),
    )
    chosen = [each for each in SCENARIOS if not options.only or each.letter in options.only]
    outcomes: list[Outcome] = []
    try:
        for scenario in chosen:
            outcomes.append(asyncio.run(run_scenario(scenario(), setup, plan)))
            if options.json is not None:  # an hour's figures survive what ends the run
                options.json.write_text(json.dumps(_result(setup, plan, outcomes), indent=2))
    finally:
        print(table([verdict for outcome in outcomes for verdict in outcome.verdicts]))
    result = _result(setup, plan, outcomes)
    if options.plots is not None:
        draw_all(result, options.plots)
    failed = [outcome.scenario.letter for outcome in outcomes if outcome.failed]
    if failed:
        raise ServerFailed(f"failed: {', '.join(failed)}; why is said above", "")
    return result


def _redrawn(result: Path, directory: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(result.read_text())
    for file in draw_all(read, directory):
        print(file)
    return read


def _setup(options: argparse.Namespace) -> Setup:
    with_peer = options.peer != "none"
    needs_yardstick = not options.only or DecodeSpeed.letter in options.only
    return Setup(
        model=options.model or bench_model(options.shape, options.quant),
        threads=options.threads,
        context=options.context,
        peer=llama_program("llama-server") if with_peer else None,
        yardstick=llama_bench() if with_peer and needs_yardstick else None,
    )


def _peers(setup: Setup) -> list[str]:
    """Both variants of the peer where there is memory for three servers at once."""
    if setup.peer is None:
        return []
    room = psutil.virtual_memory().available / setup.model.stat().st_size
    if room < ROOM_FOR_TWO:
        _say("beware: there is little memory for two servers side by side")
    if room < ROOM_FOR_ALL:
        _say("llama-server only as shipped: there is no memory for a tuned one beside it")
        return [SHIPPED]
    return [SHIPPED, TUNED]


def _result(setup: Setup, plan: Plan, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "scenario": "peers",
        "machine": this_machine().as_map(),
        "llama_cpp_python": llama_version(),
        "settings": {
            "model": setup.model.name,
            "model_bytes": setup.model.stat().st_size,
            "threads": setup.threads,
            "context": setup.context,
            "turns": plan.turns,
            "attempts": plan.attempts,
            "peers": list(plan.peers),
        },
        "rows": [
            {
                "row": verdict.row.name,
                "text": verdict.row.text,
                "unit": verdict.row.unit,
                "target": verdict.row.target,
                "ours": verdict.ours and verdict.row.figure(verdict.ours),
                "ours_spread": verdict.ours and verdict.ours.as_map(),
                "theirs": verdict.theirs and verdict.row.figure(verdict.theirs),
                "theirs_spread": verdict.theirs and verdict.theirs.as_map(),
                "theirs_variant": verdict.theirs_name,
                "ratio": verdict.ratio,
                "held": verdict.held,
                "note": verdict.note,
            }
            for outcome in outcomes
            for verdict in outcome.verdicts
        ],
        "step_ms": {name: costs for outcome in outcomes for name, costs in outcome.step_ms.items()},
        "scenarios": [outcome.as_map() for outcome in outcomes],
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _letters(text: str) -> frozenset[str]:
    chosen = frozenset(letter.strip().upper() for letter in text.split(","))
    unknown = chosen - set(LETTERS)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(LETTERS)}"
        )
    return chosen
