"""Ctrl-C while the daemon works: the first asks it to stop, the second does not wait for that.

Rule 1: outside of `first_calls` Ctrl-C raises KeyboardInterrupt as everywhere.
Rule 2: this file does not know what is stopped.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Interrupts:
    count: int = 0


@contextlib.contextmanager
def first_calls(action: Callable[[], None]) -> Iterator[Interrupts]:
    """Within the block, the first Ctrl-C calls `action`, a further one raises KeyboardInterrupt.

    An exception out of a read would lose bytes of the connection, and with it the connection;
    a handler that only sends lets the reading go on to the answer's proper end.
    """
    seen = Interrupts()

    def handle(_number: int, _frame: FrameType | None) -> None:
        seen.count += 1
        if seen.count > 1:
            raise KeyboardInterrupt
        action()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
