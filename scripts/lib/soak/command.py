"""The command line of `scripts/soak`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from .oracle import OracleFailed
from .report import missed, summary, write
from .run import Options, Undisturbed, soak
from .service import ServiceFailed

DESCRIPTION = """\
Load the daemon with every kind of client, kill and stop its processes and fill its disk, and
compare each answer with what the model says undisturbed. Prints what was reached, and writes a
report with plots. Exits 1 if a bar is missed. The daemon is a private one with the built-in guide
model; root can also give it a small disk to fill. Ctrl-C ends it early, with the report so far.
"""

# Faults catalogue, J2: nothing hangs for longer.
PATIENCE_S = 12.0


def main(argv: list[str]) -> int:
    options = _arguments(argv)
    out: Path = options.out or Path("soak-" + time.strftime("%Y%m%d-%H%M%S"))

    def say(text: str) -> None:
        if not options.quiet:
            print(text, file=sys.stderr, flush=True)

    try:
        outcome = asyncio.run(soak(Options(options.minutes, options.seed, options.patience, say)))
    except (OracleFailed, ServiceFailed, Undisturbed) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    bars = write(outcome, out)
    print(summary(bars))
    for finding in outcome.ledger.findings[:20]:
        print(f"{finding.at_s:.2f} s, {finding.kind}: {finding.text}")
    print(f"report: {out / 'soak.md'}")
    return 1 if missed(bars) else 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="how long; default: 10")
    parser.add_argument("--seed", type=int, default=1, help="of questions and faults; default: 1")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where; default: soak-DATE here")
    parser.add_argument(
        "--patience",
        type=float,
        default=PATIENCE_S,
        metavar="S",
        help="longest wait that is no hang; default: %(default)g",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing while it runs")
    return parser.parse_args(argv)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0.1 <= minutes <= 10_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 10000 minutes")
    return minutes
