"""The engine's words on standard error, which never wait for whoever reads them.

A pipe whose reader has stopped is full one day, and a write to it then waits for ever: an engine
that should be dead would hang in its last words. What cannot be written now is left out; and of a
fault that repeats itself, what is more than a hundred lines in a minute.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from qwend.journal_stream import STANDARD_ERROR, goes_to_journal

# llama.cpp explains a failure in three lines or four, a fault of ours has thirty. As long as can be
# (PIPE_BUF), they are 400 KiB: with the front's 512 less than the MiB that both may write.
LINES_A_MINUTE = 100


@dataclass(slots=True)
class _Minute:
    """Of this process; lines that were written in it, and those that were left out."""

    end_s: float = 0.0
    written: int = 0
    more: int = 0


_minute = _Minute()


def complain(
    line: str, fd: int = STANDARD_ERROR, clock: Callable[[], float] = time.monotonic
) -> None:
    """Write a line, cut to what a pipe that takes anything takes whole (PIPE_BUF, pipe(7))."""
    now = clock()
    if now >= _minute.end_s:
        more, _minute.end_s, _minute.written, _minute.more = _minute.more, now + 60.0, 0, 0
        if more:
            _write(f"qwend engine: {more} more lines in the last minute", fd)
    if _minute.written >= LINES_A_MINUTE:
        _minute.more += 1
        return
    _minute.written += 1
    _write(line, fd)


def takes_a_line(fd: int) -> bool:
    """Whether a write of at most PIPE_BUF bytes would not wait."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    # Another event is a descriptor that is closed, or a pipe without a reader.
    return poll.poll(0) == [(fd, select.POLLOUT)]


def _write(line: str, fd: int) -> None:
    level = "<3>" if goes_to_journal(os.environ, fd) else ""
    with suppress(OSError):
        if takes_a_line(fd):
            text = f"{level}{line}".encode("utf-8", "replace")
            os.write(fd, text[: select.PIPE_BUF - 1] + b"\n")
