"""However and whenever a request is given up, the engine stops working on it and holds nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until

STAGES = ["queued", "prefill", "decode", "end"]
# At 4 rows and 5 ms a step 3,000 tokens of prompt take some 4 s: long enough to be given up.
LONG = "y" * 3_000


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(
        script={"answer": "x", "endless": True, "step_s": 0.005},
        QWEND_ENGINE_UBATCH="4",
        QWEND_LIMITS_RUNNING_PER_UID="1",
        QWEND_CACHE_PREFIX_MB="0",
    ) as daemon:
        yield daemon


def bring_to(raw: RawClient, stage: str) -> None:
    """Request 1 is at this stage; where it waits, it waits for request 0."""
    if stage == "queued":
        ask(raw, 0, "hello")
        raw.read_until("accepted", id=0)
        ask(raw, 1, "hello")
        raw.read_until("progress", id=1, stage="queued")
    elif stage == "prefill":
        ask(raw, 1, LONG)
        raw.read_until("progress", id=1, stage="prefill")
    elif stage == "decode":
        ask(raw, 1, "hello")
        raw.read_until("token", id=1)
    else:
        ask(raw, 1, "hello", max_tokens=2)
        raw.read_until("done", id=1)


def ask(raw: RawClient, request_id: int, prompt: str, **generation: Any) -> None:
    raw.send(
        {"op": "complete", "id": request_id, "prompt": prompt, "max_tokens": 4000, **generation}
    )


@pytest.mark.row("B4")
@pytest.mark.parametrize("stage", STAGES)
def test_cancel(daemon: RunningDaemon, stage: str) -> None:
    with daemon.raw() as raw:
        bring_to(raw, stage)
        raw.send({"op": "cancel", "id": 1})
        if stage != "end":
            assert raw.read_until("done", id=1)[-1]["finish_reason"] == "cancelled"
        raw.send({"op": "cancel", "id": 0})
        raw.ping()
        wait_until(daemon.is_idle, f"nothing is left of a request cancelled at {stage}")
        # Once is enough: after its end no word of it.
        assert [one for one in raw.ping() if one.get("id") == 1] == []


@pytest.mark.row("B4")
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["close", "close unread", "half-close"])
def test_disconnect(daemon: RunningDaemon, how: str, stage: str) -> None:
    done = daemon.status()["requests"]["done"]
    with daemon.raw() as raw:
        bring_to(raw, stage)
        if how == "close unread":
            raw.send({"op": "ping"})
            raw.socket.recv(1)
        if how == "half-close":
            raw.socket.shutdown(socket.SHUT_WR)
        else:
            raw.close()
        wait_until(daemon.is_idle, f"nothing is left after {how} at {stage}")
    assert daemon.status()["requests"]["done"] == done + (stage == "end")


HANG_ON = """
import sys
from pathlib import Path
from tests.daemon.test_endings import bring_to
from tests.support.daemon import RawClient
raw = RawClient(Path(sys.argv[1]))
bring_to(raw, sys.argv[2])
print("there", flush=True)
sys.stdin.read()
"""


@pytest.mark.row("B4")
@pytest.mark.parametrize("stage", ["queued", "prefill", "decode"])
def test_a_client_that_is_killed(daemon: RunningDaemon, stage: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANG_ON, str(daemon.socket), stage],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "there\n"
        client.send_signal(signal.SIGKILL)
        client.wait()
        wait_until(daemon.is_idle, f"nothing is left of a client killed at {stage}")


def test_one_that_waited_runs_when_the_one_before_it_is_given_up(daemon: RunningDaemon) -> None:
    with daemon.raw() as first, daemon.raw() as second:
        bring_to(first, "decode")
        ask(second, 5, "hello", max_tokens=2)
        second.read_until("progress", id=5, stage="queued")
        first.close()
        assert second.read_until("done", id=5)[-1]["finish_reason"] == "length"
    wait_until(daemon.is_idle, "nothing is left")


@pytest.mark.row("B4")
def test_one_that_waited_and_was_given_up_never_runs(daemon: RunningDaemon) -> None:
    with daemon.raw() as first, daemon.raw() as second:
        bring_to(first, "decode")
        ask(second, 5, "hello")
        second.read_until("progress", id=5, stage="queued")
        second.close()
        wait_until(lambda: daemon.status()["engine"]["waiting"] == 0, "the queue is empty")
        first.send({"op": "cancel", "id": 1})
        first.read_until("done", id=1)
        assert daemon.is_idle()


def test_a_disconnect_in_the_middle_of_many_requests_leaves_none(daemon: RunningDaemon) -> None:
    for _ in range(5):
        with daemon.raw() as raw:
            for request_id in range(10):
                ask(raw, request_id, "hello")
        wait_until(daemon.is_idle, "nothing is left")


def test_a_client_that_leaves_its_answer_unread_and_half_closes_is_not_worked_for(
    daemon: RunningDaemon,
) -> None:
    """1. Its answer fills the kernel's buffer, so the connection cannot end by being read.
    2. It half-closes. Expected: its request ends all the same, long before its last token."""
    with daemon.raw() as raw:
        for request_id in range(1000):  # 1,000 pongs of 200 bytes and more to come
            raw.send({"op": "nonsense" * 7, "id": request_id})
        ask(raw, 1, "hello")
        wait_until(lambda: daemon.status()["engine"]["running"] == 1, "it runs")
        raw.socket.shutdown(socket.SHUT_WR)
        wait_until(daemon.is_idle, "nothing is left", deadline_s=5)
