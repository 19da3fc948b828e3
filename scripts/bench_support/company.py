"""A process that keeps a measurement company: known to have begun, and asked at the end.

It prints a line once it has begun, works until its standard input ends, and prints what came of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .interpreter import ROOT


@contextmanager
def company_of(module: str, words: Sequence[str], ended: Callable[[str], None]) -> Iterator[None]:
    """Run `module` with these words meanwhile. ended: told its last line."""
    with subprocess.Popen(
        [sys.executable, "-m", f"scripts.bench_support.{module}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield
        finally:
            process.stdin.close()
            ended(process.stdout.readline())
