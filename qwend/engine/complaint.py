"""The engine's words on standard error, which never wait for whoever reads them.

A pipe whose reader has stopped is full one day, and a write to it then waits for ever: an engine
that should be dead would hang in its last words. What cannot be written now is left out.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress

STANDARD_ERROR = 2


def complain(line: str, fd: int = STANDARD_ERROR) -> None:
    """Write a line, cut to what a pipe that takes anything takes whole (PIPE_BUF, pipe(7))."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    with suppress(OSError):
        # Another event is a descriptor that is closed, or a pipe without a reader.
        if poll.poll(0) == [(fd, select.POLLOUT)]:
            os.write(fd, line.encode("utf-8", "replace")[: select.PIPE_BUF - 1] + b"\n")
