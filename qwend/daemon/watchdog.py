"""systemd's watchdog: fed while the daemon gets on, and not merely while its event loop turns.

Owns the feeding. Without a word within WATCHDOG_USEC systemd aborts the service; see
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from qwend.daemon.notify import Notifier

log = logging.getLogger(__name__)

# sd_watchdog_enabled(3) recommends half; a third leaves room for one that is late.
FEEDS = 3


class Watchdog:
    """well: whether we get on. Without WATCHDOG_USEC for this process nothing is done."""

    def __init__(
        self,
        notifier: Notifier,
        environ: Mapping[str, str],
        pid: int,
        well: Callable[[], bool],
    ) -> None:
        self.interval_s = _limit_s(environ, pid) / FEEDS
        self._notifier = notifier
        self._well = well
        self._fed = True
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Feed until `stop`."""
        if self.interval_s:
            self._feed()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _feed(self) -> None:
        well = self._well()
        if well:
            self._notifier.alive()
        elif self._fed:
            log.error("the engine hangs and cannot be killed: the watchdog is not fed any more")
        self._fed = well
        self._timer = asyncio.get_running_loop().call_later(self.interval_s, self._feed)


def _limit_s(environ: Mapping[str, str], pid: int) -> float:
    """0 where no watchdog waits for this process."""
    limit = environ.get("WATCHDOG_USEC", "")
    ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    return int(limit) / 1e6 if ours and limit.isdecimal() else 0.0
