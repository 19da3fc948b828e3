"""Connections and requests beyond a limit are told so at once; the others are served."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from qwend.client import RequestFailed
from tests.support.daemon import RunningDaemon, running_daemon, wait_until

# Far more than it takes, far less than waiting for anybody else would.
AT_ONCE_S = 2.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(
        script={"answer": "x", "endless": True},
        QWEND_LIMITS_CONNECTIONS_PER_UID="4",
        QWEND_LIMITS_RUNNING_PER_UID="1",
        QWEND_LIMITS_QUEUED_PER_UID="2",
        QWEND_LIMITS_HELLO_TIMEOUT_S="0.2",
    ) as daemon:
        yield daemon


def test_without_a_hello_the_connection_ends_with_the_reason(daemon: RunningDaemon) -> None:
    begin = time.monotonic()
    with daemon.raw(hello=False) as raw:
        (error,) = raw.read_to_the_end()
        assert error["code"] == "hello_timeout"
    assert time.monotonic() - begin >= 0.2


def test_half_a_hello_is_none(daemon: RunningDaemon) -> None:
    with daemon.raw(hello=False) as raw:
        raw.send_bytes(b"\x00\x00\x00\x20\x82")
        (error,) = raw.read_to_the_end()
        assert error["code"] == "hello_timeout"


def test_after_the_hello_a_connection_may_be_quiet(daemon: RunningDaemon) -> None:
    with daemon.raw() as quiet:
        with daemon.raw(hello=False) as late:
            assert late.read_to_the_end()[0]["code"] == "hello_timeout"
        assert quiet.ping() == []


@pytest.mark.row("B1")
@pytest.mark.parametrize("setting", ["CONNECTIONS", "CONNECTIONS_PER_UID"])
def test_a_connection_too_many_is_busy_and_there_is_room_again_later(setting: str) -> None:
    limits: dict[str, Any] = {f"QWEND_LIMITS_{setting}": "4", "QWEND_LIMITS_HELLO_TIMEOUT_S": "30"}
    with running_daemon(**limits) as daemon, ExitStack() as connected:
        first = [connected.enter_context(daemon.client()) for _ in range(4)]
        for _ in range(3):
            with pytest.raises(RequestFailed, match=setting.lower()) as caught:
                daemon.client()
            assert caught.value.code == "busy"
            assert caught.value.retry_after_s is not None
        assert first[0].status()["connections"] == 4
        first[3].close()
        wait_until(lambda: first[0].status()["connections"] == 3, "the fourth is gone")
        connected.enter_context(daemon.client())


def test_what_waits_is_told_how_many_are_ahead_and_one_too_many_is_busy(
    daemon: RunningDaemon,
) -> None:
    with daemon.raw() as raw:
        for request_id in range(4):
            raw.send({"op": "complete", "id": request_id, "prompt": "hello", "credit": 0})
        begin = time.monotonic()
        busy = raw.read_until("error")[-1]
        assert time.monotonic() - begin < AT_ONCE_S
        assert (busy["id"], busy["code"]) == (3, "busy")
        assert busy["retry_after_s"] > 0
        raw.send({"op": "cancel", "id": 0})
        messages = raw.read_until("accepted", id=1)
        queued = {one["id"]: one for one in messages if one.get("stage") == "queued"}
        assert not queued or all(one["total"] > 0 for one in queued.values())
    wait_until(daemon.is_idle, "the connection's requests are gone")


def test_the_queue_is_told_in_order(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        for request_id in range(3):
            raw.send({"op": "complete", "id": request_id, "prompt": "hello", "credit": 0})
        messages = raw.ping()
        waiting = [(one["id"], one["total"]) for one in messages if one.get("stage") == "queued"]
        assert [one for one in waiting if one[0]] == [(1, 1), (2, 2)]
    wait_until(daemon.is_idle, "the connection's requests are gone")


def test_an_id_in_use_is_refused(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        raw.send({"op": "complete", "id": 7, "prompt": "hello", "credit": 0})
        raw.read_until("accepted")
        raw.send({"op": "complete", "id": 7, "prompt": "hello", "credit": 0})
        assert raw.read_until("error")[-1]["code"] == "duplicate_id"
        raw.send({"op": "credit", "id": 7, "tokens": 1})
        raw.read_until("token", id=7)
    wait_until(daemon.is_idle, "the connection's requests are gone")


@pytest.mark.row("B7")
@pytest.mark.parametrize("waiting", [False, True])
def test_a_deadline_ends_the_request_wherever_it_is(daemon: RunningDaemon, waiting: bool) -> None:
    with daemon.raw() as raw:
        if waiting:
            raw.send({"op": "complete", "id": 0, "prompt": "hello", "credit": 0})
            raw.read_until("accepted", id=0)
        raw.send({"op": "complete", "id": 1, "prompt": "hello", "credit": 0, "deadline_s": 0.1})
        error = raw.read_until("error")[-1]
        assert (error["id"], error["code"]) == (1, "deadline_exceeded")
    wait_until(daemon.is_idle, "the connection's requests are gone")
