"""systemd's watchdog is fed while the daemon gets on; on a clock that jumps."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from qwend.daemon.notify import Notifier
from qwend.daemon.watchdog import FEEDS, Watchdog
from tests.daemon.fakes import run_jumping

PID = 4711


def feeds(folder: Path, environ: Mapping[str, str], seconds: float, well_until_s: float) -> int:
    """How often it is fed in so many seconds, if we get on for the first of them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": str(folder / "notify")})

        async def main() -> int:
            loop = asyncio.get_running_loop()
            watchdog = Watchdog(notifier, environ, PID, lambda: loop.time() < well_until_s)
            watchdog.start()
            fed = 0
            for _ in range(int(seconds)):
                await asyncio.sleep(1.0)
                try:
                    while True:
                        fed += systemd.recv(100) == b"WATCHDOG=1"
                except BlockingIOError:
                    continue
            watchdog.stop()
            return fed

        fed = run_jumping(main())
        notifier.close()
        return fed


def test_it_is_fed_three_times_as_often_as_it_must(folder: Path) -> None:
    environ = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}
    assert feeds(folder, environ, seconds=299, well_until_s=1000) == 299 // (30 // FEEDS) + 1


def test_it_is_not_fed_any_more_when_we_do_not_get_on(folder: Path) -> None:
    environ = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}
    assert feeds(folder, environ, seconds=299, well_until_s=55) == 6


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon", "WATCHDOG_PID": str(PID)},
    ],
)
def test_without_a_watchdog_of_ours_nothing_is_said(
    folder: Path, environ: Mapping[str, str]
) -> None:
    assert feeds(folder, environ, seconds=100, well_until_s=1000) == 0
