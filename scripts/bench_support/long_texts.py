"""`bench texts`: what a stream feels of a client that sends texts of a MiB as fast as it can.

In turns: a greedy stream of one client on an otherwise idle daemon, and the same stream while a
process of its own has four `tokenize` or `complete` requests open at any time, each with a text
of one kind. Told are the gaps between two tokens, p50, p99 and the longest, and the ratio of the
medians of p99. The other process needs a CPU, too: `beside` tells what one that computes costs.
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
from .long_texts_client import COMPUTES, TEXTS
from .machine import this_machine
from .spread import Spread

IDLE = "idle"
MORE_THAN_ENOUGH = 1 << 20  # tokens: the stream ends when the turn does


@dataclass(frozen=True, slots=True)
class Turn:
    """Gaps between two deliveries of the stream; answered: requests of the other's that ended."""

    p50_s: float
    p99_s: float
    longest_s: float
    tokens: int
    answered: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="guide", help="name or path; default: the built-in one")
    parser.add_argument("--turns", type=int, default=5, help="of each kind")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each turn")
    parser.add_argument(
        "--texts",
        default=",".join((COMPUTES, *TEXTS)),
        help=f"kinds, of {COMPUTES}, {', '.join(TEXTS)}; default: all",
    )
    parser.add_argument("--op", choices=("tokenize", "complete"), default="tokenize")
    parser.add_argument("--bytes", type=int, default=1_000_000, help="of each text")


def run(options: argparse.Namespace) -> dict[str, Any]:
    kinds = [IDLE, *options.texts.split(",")]
    turns: dict[str, list[Turn]] = {kind: [] for kind in kinds}
    # One token a step: drafts would come several at once.
    settings = {"QWEND_MODEL_NAME": options.model, "QWEND_ENGINE_SPECULATION": "false"}
    with running_daemon(settings) as daemon, daemon.client() as client:
        _gaps(client, 1.0)
        for _ in range(options.turns):
            for kind in kinds:
                with _company(kind, daemon.socket, options) as company:
                    gaps = _gaps(client, options.seconds)
                p50_s, p99_s = gaps.percentile(50), gaps.percentile(99)
                longest_s, count = gaps.values[-1], len(gaps.values)
                turns[kind].append(Turn(p50_s, p99_s, longest_s, count, company.answered))
        restarts = client.status()["engine"]["restarts"]
        assert daemon.process.poll() is None
    return _report(turns, restarts)


def _gaps(client: Client, seconds: float) -> Spread:
    stream = client.complete(
        "What is qwend?", max_tokens=MORE_THAN_ENOUGH, temperature=0.0, ignore_eos=True
    )
    arrivals: list[float] = []
    end = time.monotonic() + seconds
    for token in stream:
        if token.ids:
            arrivals.append(time.monotonic())
            if arrivals[-1] >= end:
                stream.cancel()
                break
    return Spread.of([later - earlier for earlier, later in pairwise(arrivals)])


@dataclass(slots=True)
class _Company:
    answered: int = 0


@contextmanager
def _company(kind: str, socket: Path, options: argparse.Namespace) -> Iterator[_Company]:
    """A process that does what `kind` says; how many answers it had is known at the end."""
    company = _Company()
    if kind == IDLE:
        yield company
        return

    def ended(line: str) -> None:
        company.answered = int(line)

    words = [kind, options.op, str(options.bytes), str(socket)]
    with company_of("long_texts_client", words, ended):
        yield company


def _report(turns: dict[str, list[Turn]], restarts: int) -> dict[str, Any]:
    print(f"{'':<9} {'p50, ms':>8} {'p99, ms':>22} {'longest, ms':>24} {'tokens':>8} {'texts':>6}")
    ratios = {}
    idle = Spread.of([turn.p99_s for turn in turns[IDLE]]).median
    for kind, each in turns.items():
        p50, p99, longest = (
            Spread.of([1000 * getattr(turn, name) for turn in each])
            for name in ("p50_s", "p99_s", "longest_s")
        )
        ratios[kind] = p99.median / idle / 1000
        tokens, texts = sum(turn.tokens for turn in each), sum(turn.answered for turn in each)
        print(
            f"{kind:<9} {p50.median:>8.2f} {f'{p99:.2f}':>22} {f'{longest:.2f}':>24} "
            f"{tokens:>8,} {texts:>6,}  {ratios[kind]:.2f}"
        )
    print(f"last: p99 / idle p99 (medians); {restarts} restarts of the engine")
    return {
        "turns": {kind: [asdict(turn) for turn in each] for kind, each in turns.items()},
        "ratios": ratios,
        "restarts": restarts,
        "machine": asdict(this_machine()),
    }
