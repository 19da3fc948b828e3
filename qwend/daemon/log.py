"""Logging to standard error: with journald's level prefixes under systemd, plain elsewhere.

No prompt or answer text is logged at any level. A message about what a client did begins with
`uid %d`; how many of them are written is `log_limit.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from qwend.daemon.log_limit import LogLimit
from qwend.engine.complaint import takes_a_line
from qwend.fault_report import fault_report
from qwend.journal_stream import goes_to_journal

# sd-daemon(3): "<N>" at the beginning of a line is its syslog level.
_SYSLOG_LEVELS = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}

# A timer may come a tick too early, and the minute would not be over yet.
_LATE_S = 0.1

Schedule = Callable[[float, Callable[[], None]], bool]


class _Formatter(logging.Formatter):
    """Exceptions without what they quote, but where the operator wants all of it."""

    def formatException(self, ei: Any) -> str:
        error = ei[1]
        if error is None or logging.getLogger().isEnabledFor(logging.DEBUG):
            return super().formatException(ei)
        return fault_report(error)


class _JournalFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        level = f"<{_SYSLOG_LEVELS.get(record.levelno, 6)}>"
        return level + super().format(record).replace("\n", f"\n{level}")


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes what the limit admits, and what it has counted once a minute is over.

    schedule: seconds, callback -> whether it will be called; so that a count is told in time where
    nothing else is logged.
    """

    def __init__(self, stream: TextIO, limit: LogLimit, schedule: Schedule) -> None:
        super().__init__(stream)
        self._limit = limit
        self._schedule = schedule
        self._scheduled = False
        self._lost = 0  # lines for which a full pipe would have been waited for

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self._limit.ended())
        if self._limit.admits(record, len(self.format(record))):
            self._put(record)
        elif not self._scheduled:
            delay_s = self._limit.remaining_s + _LATE_S
            self._scheduled = self._schedule(delay_s, self._minute_is_over)

    def close(self) -> None:
        self._write(self._limit.close())
        super().close()

    def _minute_is_over(self) -> None:
        self._scheduled = False
        self.acquire()
        try:
            self._write(self._limit.ended())
        finally:
            self.release()

    def _write(self, counts: list[str]) -> None:
        for text in counts:
            self._put(_warning(text))

    def _put(self, record: logging.LogRecord) -> None:
        """Write it, unless that would wait: who reads the log may have stopped, and nobody else is
        to stop with them."""
        if not _takes_a_line(self.stream):
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        if lost:
            super().emit(_warning(f"{lost} lines could not be written: nobody had read the log"))
        super().emit(record)


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, "", 0, text, None, None)


def _takes_a_line(stream: TextIO) -> bool:
    try:
        fd = stream.fileno()
    except (AttributeError, OSError, ValueError):  # closed from the start, or one in memory
        return True
    return takes_a_line(fd)


def set_up_logging(level: str, environ: Mapping[str, str]) -> None:
    """To standard error from now on, of this level and above."""
    handler = LimitedHandler(sys.stderr, LogLimit(time.monotonic), _in_the_loop)
    if goes_to_journal(environ):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(_Formatter("qwend %(levelname)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def _in_the_loop(delay_s: float, callback: Callable[[], None]) -> bool:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another thread, or the loop is over: the next line tells, or the end
        return False
    loop.call_later(delay_s, callback)
    return True
