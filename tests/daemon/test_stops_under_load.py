"""Stopped again and again under load: each request ends once, nothing is left, the exit is 0.

QWEND_TEST_STOPS sets how often.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from typing import Any

import psutil
import pytest

from tests.daemon.fake_systemd import FakeSystemd, fake_systemd
from tests.support.daemon import DEADLINE_S, RawClient

pytestmark = pytest.mark.row("C5")
STOPS = int(os.environ.get("QWEND_TEST_STOPS", "2"))
SLOW: dict[str, Any] = {"answer": "x", "endless": True, "step_s": 0.002}
# Shorter than the longest of the streams, and longer than the others.
SETTINGS = {"QWEND_LIMITS_DRAIN_S": "1", "FDSTORE": ""}
SHORT, LONG = 40, 100_000


@pytest.mark.timeout(60 + 5 * STOPS)
def test_every_stop_under_load_ends_each_stream_once_and_leaves_nothing() -> None:
    draw = random.Random(5)
    refused_s: list[float] = []
    exit_s: list[float] = []
    with fake_systemd() as systemd:
        for number in range(STOPS):
            systemd.start_and_wait(SLOW, **SETTINGS)
            with systemd.client() as short, systemd.client() as long, systemd.client() as late:
                for at in range(4):
                    ask(short, at, SHORT)
                ask(long, 1, LONG)
                long.read_until("token")
                time.sleep(draw.uniform(0, 0.1))  # the moment is what is drawn
                refused, exited = stop_and_ask(systemd, late, number)
                refused_s.append(refused)
                exit_s.append(exited)
                ends = endings(short)
                assert sorted(one["id"] for one in ends) == [0, 1, 2, 3]
                assert {one["op"] for one in ends} == {"done"}
                assert {one["usage"]["completion_tokens"] for one in ends} == {SHORT}
                (cut,) = endings(long)
                assert (cut["id"], cut["code"]) == (1, "shutting_down")
            assert systemd.says("STOPPING=1") == number + 1
    print(
        f"{STOPS} stops: a new request refused after {max(refused_s) * 1e3:.0f} ms at most, "
        f"ended {statistics.median(exit_s):.2f} s after the signal, {max(exit_s):.2f} s at most, "
        "1 s of it the drain"
    )


def ask(client: RawClient, request_id: int, tokens: int) -> None:
    """With so little credit that what is not read while the daemon stops fits into the socket."""
    fields = {"op": "complete", "id": request_id, "prompt": "hello", "max_tokens": tokens}
    client.send({**fields, "credit": SHORT})


def stop_and_ask(systemd: FakeSystemd, late: RawClient, number: int) -> tuple[float, float]:
    """Seconds until a request that comes after the signal is refused, and until the exit."""
    assert systemd.process is not None
    children = psutil.Process(systemd.process.pid).children(recursive=True)
    begin = time.monotonic()
    systemd.process.send_signal((signal.SIGTERM, signal.SIGINT)[number % 2])
    late.read_until("goaway")
    asked = time.monotonic()
    ask(late, 7, 1)
    assert late.read_until("error")[-1]["code"] == "shutting_down"
    refused = time.monotonic()
    assert systemd.process.wait(DEADLINE_S) == 0
    ended = time.monotonic()
    systemd.listen()
    assert not [child for child in children if child.is_running()]
    return refused - asked, ended - begin


def endings(client: RawClient) -> list[dict[str, Any]]:
    return [one for one in client.read_to_the_end() if one["op"] in ("done", "error")]
