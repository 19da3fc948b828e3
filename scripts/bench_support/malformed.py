"""`bench malformed`: what a stream feels of a client that sends malformed frames as fast as it can.

In turns: a stream of one client on an otherwise idle daemon, and the same stream while a process
of its own connects again and again and breaks the protocol, in the 29 ways of
tests/wire/malformed.py. Told are the gaps between two tokens, p99 of each turn, and the ratio of
the medians. The other process needs a CPU, too, which is part of what is felt: --beside tells how
much, with a process that computes in its place.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from qwend.client import Client

from .company import company_of
from .daemon_under_test import running_daemon
from .machine import this_machine
from .spread import Spread


@dataclass(frozen=True, slots=True)
class Turn:
    """frames: malformed ones that were sent meanwhile. closed_s: the longest that a connection of
    theirs was open."""

    p99_s: float
    longest_s: float
    frames: int
    closed_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="guide", help="name or path; default: the built-in one")
    parser.add_argument("--turns", type=int, default=7, help="of each kind")
    parser.add_argument("--tokens", type=int, default=1500, help="of the stream in each turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--beside", action="store_true", help="also beside a process that computes")


def run(options: argparse.Namespace) -> dict[str, Any]:
    kinds = ["idle", "attacked", *(["beside"] if options.beside else [])]
    turns: dict[str, list[Turn]] = {kind: [] for kind in kinds}
    settings = {"QWEND_MODEL_NAME": options.model}
    with running_daemon(settings) as daemon, daemon.client() as client:
        _turn(client, options.tokens)
        for number in range(options.turns):
            for kind in kinds:
                with _company(kind, daemon.socket, options.seed + number) as company:
                    p99_s, longest_s = _turn(client, options.tokens)
                turns[kind].append(Turn(p99_s, longest_s, company.frames, company.closed_s))
        status = client.status()
        assert daemon.process.poll() is None
    return _report(turns, status)


def _turn(client: Client, tokens: int) -> tuple[float, float]:
    """p99 and the longest gap between two deliveries of one stream."""
    stream = client.complete("What is qwend?", max_tokens=tokens, ignore_eos=True, seed=1)
    arrivals = [time.monotonic() for token in stream if token.ids]
    gaps = Spread.of([later - earlier for earlier, later in pairwise(arrivals)])
    return gaps.percentile(99), gaps.values[-1]


@dataclass(slots=True)
class _Company:
    frames: int = 0
    closed_s: float = 0.0


@contextmanager
def _company(kind: str, socket: Path, seed: int) -> Iterator[_Company]:
    """A process that does what `kind` says; what it has sent is known at the end."""
    company = _Company()
    if kind == "idle":
        yield company
        return

    def ended(line: str) -> None:
        frames, closed_s = line.split()
        company.frames, company.closed_s = int(frames), float(closed_s)

    with company_of("malformed_client", [kind, str(socket), str(seed)], ended):
        yield company


def _report(turns: dict[str, list[Turn]], status: Any) -> dict[str, Any]:
    print(f"{'':<9} {'p99 gap, ms':>22} {'longest, ms':>24} {'frames':>9}")
    for kind, each in turns.items():
        p99 = Spread.of([1000 * turn.p99_s for turn in each])
        longest = Spread.of([1000 * turn.longest_s for turn in each])
        frames = sum(turn.frames for turn in each)
        print(f"{kind:<9} {f'{p99:.2f}':>22} {f'{longest:.2f}':>24} {frames:>9,}")
    idle = Spread.of([turn.p99_s for turn in turns["idle"]]).median
    ratio = Spread.of([turn.p99_s for turn in turns["attacked"]]).median / idle
    restarts = status["engine"]["restarts"]
    closed_s = max(turn.closed_s for turn in turns["attacked"])
    print(f"attacked / idle {ratio:.2f} (medians of p99); {restarts} restarts of the engine")
    print(f"each connection was answered and closed within {closed_s:.3f} s")
    return {
        "turns": {kind: [asdict(turn) for turn in each] for kind, each in turns.items()},
        "ratio": ratio,
        "restarts": restarts,
        "machine": asdict(this_machine()),
    }
