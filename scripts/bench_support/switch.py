"""`bench switch`: what running streams feel while another model takes over.

Two files of one model, so that both engines do the same work. In each turn some streams run, the
daemon is told to load the other file, and once that answers the streams go on to their end. Told
are the load time, the longest gap of a stream while it was loading and while nothing was, and
whether every stream had each of its tokens once. With --in-turn the daemon is made to hold one
model at a time: the streams end first, and what is told is how long a request waited that was sent
right after the order.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from qwend.client import AsyncClient

from .bench_model import bench_model
from .daemon_under_test import running_daemon
from .machine import this_machine
from .spread import Spread

PROMPT = "One two three four five six seven eight nine ten."
WARM_S = 2.0
"""That streams run before the order, to know their gaps without it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds. gap_s: the longest of any stream while the other model was being loaded; before_s:
    and before that. waited_s: of a request sent right after the order, to its first token."""

    load_s: float
    before_s: float
    gap_s: float
    waited_s: float
    broken: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a GGUF file; default: the 0.5b bench model")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=400, help="of each stream")
    parser.add_argument("--in-turn", action="store_true", help="one model in memory at a time")


def run(options: argparse.Namespace) -> dict[str, Any]:
    model = (options.model or bench_model("0.5b", "Q4_0")).resolve()
    settings = {
        "QWEND_MODEL_NAME": str(model),
        "QWEND_MODEL_CONTEXT": "4096",
        "QWEND_LIMITS_RUNNING_PER_UID": "16",
    }
    if options.in_turn:  # what a GPU has left is not known, so nothing is put beside it
        settings["QWEND_MODEL_GPU_LAYERS"] = "1"
    with running_daemon(settings) as daemon:
        other = daemon.socket.with_name("other.gguf")
        other.symlink_to(model)
        turns = asyncio.run(_turns(daemon.socket, [str(other), str(model)], options))
        assert daemon.process.poll() is None
    return _report(turns, options)


async def _turns(socket: Path, models: Sequence[str], options: argparse.Namespace) -> list[Turn]:
    turns = []
    async with AsyncClient(socket) as client:
        for number in range(options.turns):
            turn = await _turn(client, models[number % 2], options)
            print(
                f"  turn {number + 1}: loaded in {turn.load_s:.2f} s, longest gap "
                f"{1000 * turn.gap_s:.0f} ms ({1000 * turn.before_s:.0f} before), a new request "
                f"waited {turn.waited_s:.2f} s, {turn.broken} broken"
            )
            turns.append(turn)
    return turns


async def _turn(client: AsyncClient, model: str, options: argparse.Namespace) -> Turn:
    streams = [_Stream() for _ in range(options.streams)]
    running = [
        asyncio.create_task(one.run(client, options.tokens, number))
        for number, one in enumerate(streams)
    ]
    while not all(one.arrivals for one in streams):
        await asyncio.sleep(0.01)
    await asyncio.sleep(WARM_S)
    begun = time.monotonic()
    order = asyncio.create_task(client.load(model))
    await asyncio.sleep(0.1)  # by then the order is being carried out
    late = _Stream()
    waiting = asyncio.create_task(late.run(client, 8, options.streams))
    await order
    loaded = time.monotonic()
    await asyncio.gather(*running, waiting)
    return Turn(
        load_s=loaded - begun,
        before_s=max(one.longest_gap(0.0, begun) for one in streams),
        gap_s=max(one.longest_gap(begun, loaded) for one in streams),
        waited_s=late.arrivals[0] - begun,
        broken=sum(not one.whole for one in (*streams, late)),
    )


class _Stream:
    """One answer: when its tokens came, and whether each came once."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.whole = False

    async def run(self, client: AsyncClient, tokens: int, seed: int) -> None:
        stream = await client.complete(
            PROMPT, max_tokens=tokens, ignore_eos=True, seed=seed, temperature=1.0
        )
        due = 0
        async for token in stream:
            if token.ids:
                self.arrivals.append(time.monotonic())
            due = due + len(token.ids) if token.index == due else -1
        self.whole = due == tokens

    def longest_gap(self, begin: float, end: float) -> float:
        """Between two arrivals of which the later is within the time."""
        gaps = (late - early for early, late in pairwise(self.arrivals) if begin <= late <= end)
        return max(gaps, default=0.0)


def _report(turns: list[Turn], options: argparse.Namespace) -> dict[str, Any]:
    load = Spread.of([turn.load_s for turn in turns])
    gap = Spread.of([1000 * turn.gap_s for turn in turns])
    before = Spread.of([1000 * turn.before_s for turn in turns])
    waited = Spread.of([turn.waited_s for turn in turns])
    broken = sum(turn.broken for turn in turns)
    order = "in turn" if options.in_turn else "side by side"
    print(f"{options.streams} streams, models {order}, median (lowest-highest):")
    print(f"  load                        {load:.2f} s")
    print(f"  longest gap while loading   {gap:.0f} ms")
    print(f"  longest gap before          {before:.0f} ms")
    print(f"  a new request's first token {waited:.2f} s")
    print(f"  broken streams              {broken}")
    return {"turns": [asdict(turn) for turn in turns], "machine": asdict(this_machine())}
