"""The command behind scripts/fuzz: each target in turn, guided where that can be."""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys

from scripts.lib.fuzz.blind import hunt_blindly
from scripts.lib.fuzz.guided import corpus_of, hunt_guided, is_there
from scripts.lib.fuzz.hunt import Hunt, store
from tests.fuzz.catalogue import FOUND, NAMES, Target, load

BLIND_SHARE = 0.25
"""Of the time: who follows coverage stays away from what reaches no new line. A number of 8 bytes
too large for where it went was found in 20 s blindly, and not in 90 s by coverage."""
MEMORY_BYTES = 2 << 30
"""What no input may need, by far; the promise of each part is tested beside it."""


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 1 if something was found."""
    options = _parser().parse_args(arguments)
    names = NAMES if options.target == "all" else (options.target,)
    guided = is_there() and not options.blind
    if not guided:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    found = 0
    for name in names:
        target = load(name)
        before = set(target.found)
        seconds = options.minutes * 60
        if guided:
            hunt_with_atheris(target, seconds * (1 - BLIND_SHARE))
            seconds *= BLIND_SHARE
        hunt = Hunt(target)
        hunt_blindly(hunt, seconds, options.seed)
        print(f"{name}: {hunt.tried:,} inputs changed at random, --seed {options.seed}")
        new = [path for path in target.found if path not in before]
        found += len(new)
        print(f"{name}: {len(new)} found{''.join(f', {path}' for path in new)}", flush=True)
    return 1 if found else 0


def hunt_with_atheris(target: Target, seconds: float) -> None:
    status, fatal = hunt_guided(target, seconds, corpus_of(target.name, os.environ))
    for data in fatal:
        print(f"{target.name}: the process did not survive {store(FOUND / target.name, data)}")
    if status and not fatal:
        print(f"{target.name}: the search ended with status {status}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("target", choices=[*NAMES, "all"])
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--blind", action="store_true", help="not guided by coverage")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
