"""Run one long command: all it says into a log, one live line for the person who waits.

Rule 1: whatever happens here, Ctrl-C included, the command and its children are gone afterwards.
Rule 2: this file does not know what the command does; the caller reads its lines.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from problem import Problem

# Of the log, on failure: a compiler's error with its context fits.
TAIL_LINES = 25
# Without a terminal (CI, ssh to a file) lines stay, so there are fewer of them.
PLAIN_EVERY_S = 30.0
LIVE_EVERY_S = 1.0
STOP_S = 10.0

Step = Callable[[str], str | None]
"""Given a line of output: what to show as the current step, None to go on showing the last."""


class Progress:
    """One line that is rewritten on a terminal; elsewhere a plain line every 30 s."""

    def __init__(self, what: str, stream: IO[str]) -> None:
        self._what = what
        self._stream = stream
        self._live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._began = time.monotonic()
        self._shown = self._began
        self.step = ""

    def start(self) -> None:
        self._write(f"{self._what} ..." if self._live else f"{self._what} ...\n")

    def tick(self) -> None:
        """Show how far it is, if it is time to."""
        now = time.monotonic()
        if now - self._shown >= (LIVE_EVERY_S if self._live else PLAIN_EVERY_S):
            self._shown = now
            self._show(now - self._began)

    def end(self, outcome: str) -> None:
        elapsed = _elapsed(time.monotonic() - self._began)
        self._write(f"{self._start_of_line()}{self._what}: {outcome} after {elapsed}\n")

    def _show(self, elapsed_s: float) -> None:
        step = f", {self.step}" if self.step else ""
        line = f"{self._what}: {_elapsed(elapsed_s)}{step}"
        if self._live:
            # A line that wraps could not be rewritten. fd 2 is where the line goes.
            with contextlib.suppress(OSError):
                line = line[: os.get_terminal_size(self._stream.fileno()).columns - 1]
        self._write(f"{self._start_of_line()}{line}" + ("" if self._live else "\n"))

    def _start_of_line(self) -> str:
        return "\r\x1b[K" if self._live else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def run(
    what: str,
    command: Sequence[str],
    log: Path,
    environ: Mapping[str, str],
    step: Step = lambda line: None,
) -> None:
    """Run `command` to its end, showing `what` and its steps on stderr.

    Raises: Problem with the end of the log if the command fails.
    """
    progress = Progress(what, sys.stderr)
    log.parent.mkdir(parents=True, exist_ok=True)
    outcome = "interrupted"
    with open(log, "wb") as kept, _started(command, environ) as process:
        progress.start()
        try:
            for line in _lines(process, progress):
                kept.write(line)
                kept.flush()
                progress.step = step(line.decode(errors="replace")) or progress.step
            outcome = "done" if process.wait() == 0 else "failed"
        finally:
            progress.end(outcome)
    if outcome == "failed":
        raise Problem(f"{_tail(log)}\n{what} failed; the whole log is {log}")


@contextlib.contextmanager
def _started(
    command: Sequence[str], environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    # A session of its own: Ctrl-C reaches us alone, and we end the whole family, compilers too.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        if process.stdout:
            process.stdout.close()


def _lines(process: subprocess.Popen[bytes], progress: Progress) -> Iterator[bytes]:
    """Yield the output line by line; keep the progress alive where none comes."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=LIVE_EVERY_S):
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                *whole, rest = (rest + data).split(b"\n")
                yield from (line + b"\n" for line in whole)
            progress.tick()
    if rest:
        yield rest + b"\n"


def _elapsed(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])
