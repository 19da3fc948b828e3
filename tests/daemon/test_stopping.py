"""The daemon is told to stop: what runs may end, what comes is refused, nothing stays behind."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.client import RequestFailed, Token
from tests.support.daemon import (
    DEADLINE_S,
    RunningDaemon,
    running_daemon,
    started_daemon,
    wait_until,
)

pytestmark = pytest.mark.row("C5")

SLOW: dict[str, Any] = {"answer": "x", "endless": True, "step_s": 0.005}


def assert_nothing_is_left(daemon: RunningDaemon, children: list[psutil.Process]) -> None:
    assert not daemon.socket.exists()
    assert not daemon.socket.with_name("qwend.sock.lock").exists()
    assert not [child for child in children if child.is_running()]


def children_of(daemon: RunningDaemon) -> list[psutil.Process]:
    return psutil.Process(daemon.process.pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain(number: signal.Signals) -> None:
    """1. A stream runs. 2. The signal. 3. Its client is told to ask no more; a new request on the
    same connection is refused; nobody else gets in. 4. The stream ends well, and so does the
    daemon; nothing is left."""
    with running_daemon(script=SLOW) as daemon, daemon.raw() as raw:
        children = children_of(daemon)
        raw.send({"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 200})
        raw.read_until("token")
        daemon.process.send_signal(number)
        goodbye = raw.read_until("goaway")[-1]
        assert goodbye["reason"] == "shutting_down"
        raw.send({"op": "complete", "id": 2, "prompt": "hello"})
        refused = raw.read_until("error")[-1]
        assert (refused["id"], refused["code"]) == (2, "shutting_down")
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(str(daemon.socket))
        raw.send({"op": "status"})
        assert raw.read_until("status")[-1]["status"]["state"] == "draining"
        rest = raw.read_to_the_end()
        assert rest[-1]["op"] == "done"
        assert rest[-1]["usage"]["completion_tokens"] == 200
        assert daemon.process.wait(DEADLINE_S) == 0
        assert_nothing_is_left(daemon, children)


def test_a_stream_longer_than_the_drain_is_told_and_cut() -> None:
    with running_daemon(script=SLOW, QWEND_LIMITS_DRAIN_S="0.2") as daemon:
        with daemon.client() as client:
            stream = client.complete("hello", max_tokens=100_000)
            next(iter(stream))
            daemon.process.send_signal(signal.SIGTERM)
            with pytest.raises(RequestFailed) as caught:
                stream.wait()
            assert caught.value.code == "shutting_down"
        assert daemon.process.wait(DEADLINE_S) == 0


def test_queued_requests_end_with_a_word_too() -> None:
    with (
        running_daemon(
            script=SLOW, QWEND_LIMITS_DRAIN_S="0.2", QWEND_LIMITS_RUNNING_PER_UID="1"
        ) as daemon,
        daemon.raw() as raw,
    ):
        for request_id in range(4):
            raw.send({"op": "complete", "id": request_id, "prompt": "hello", "max_tokens": 9999})
        raw.read_until("token")
        daemon.process.send_signal(signal.SIGTERM)
        ends = [one for one in raw.read_to_the_end() if one["op"] in ("done", "error")]
        assert sorted((one["id"], one["code"]) for one in ends) == [
            (request_id, "shutting_down") for request_id in range(4)
        ]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_the_drain_short(
    first: signal.Signals, second: signal.Signals
) -> None:
    with (
        running_daemon(script=SLOW, QWEND_LIMITS_DRAIN_S="600") as daemon,
        daemon.raw() as raw,
    ):
        children = children_of(daemon)
        raw.send({"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 100_000})
        raw.read_until("token")
        daemon.process.send_signal(first)
        raw.read_until("goaway")
        daemon.process.send_signal(second)
        assert raw.read_until("error")[-1]["code"] == "shutting_down"
        assert daemon.process.wait(DEADLINE_S) == 0
        assert_nothing_is_left(daemon, children)


def test_an_idle_daemon_stops_at_once_even_with_clients_connected() -> None:
    with running_daemon(script={}) as daemon, daemon.raw() as raw, daemon.raw(hello=False):
        children = children_of(daemon)
        begin = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert [one["op"] for one in raw.read_to_the_end()] == ["goaway"]
        assert daemon.process.wait(DEADLINE_S) == 0
        assert time.monotonic() - begin < 10
        assert_nothing_is_left(daemon, children)


def test_a_client_that_reads_nothing_does_not_hold_the_stop_up() -> None:
    with (
        running_daemon(
            script={"answer": "x", "endless": True},
            QWEND_LIMITS_DRAIN_S="0.2",
            QWEND_MODEL_CONTEXT="200000",
        ) as daemon,
        daemon.raw() as raw,
    ):
        raw.send({"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 100_000})
        wait_until(lambda: daemon.status()["engine"]["used_cells"] > 2000, "its outbox fills")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    ("number", "step", "stage"),
    [
        (signal.SIGTERM, 1, "calibrating"),
        (signal.SIGINT, 1, "calibrating"),
        (signal.SIGTERM, 9, "pre-filling"),
    ],
)
def test_a_start_can_be_stopped(
    folder: Path, number: signal.Signals, step: int, stage: str
) -> None:
    """The engine hangs while it calibrates, or at the system prompt: the daemon never gets ready,
    and goes all the same when it is told to."""
    with (
        notified(folder) as systemd,
        started_daemon(
            script={"hang_at_step": step}, NOTIFY_SOCKET=str(systemd.getsockname())
        ) as daemon,
    ):
        while not systemd.recv(4096).startswith(f"STATUS={stage}".encode()):
            continue
        children = children_of(daemon)
        daemon.process.send_signal(number)
        assert daemon.process.wait(DEADLINE_S) == 0
        assert_nothing_is_left(daemon, children)


def test_systemd_is_told_ready_once_clients_are_served_and_stopping_when_it_begins(
    folder: Path,
) -> None:
    with (
        notified(folder) as systemd,
        running_daemon(script={}, NOTIFY_SOCKET=str(systemd.getsockname())) as daemon,
    ):
        told = systemd.recv(4096)
        while not told.startswith(b"READY=1"):
            assert told.startswith(b"STATUS=")
            told = systemd.recv(4096)
        with daemon.client() as client:
            assert client.status()["state"] == "ready"
        daemon.process.send_signal(signal.SIGTERM)
        assert systemd.recv(4096).startswith(b"STOPPING=1")


@contextmanager
def notified(folder: Path) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "notify"))
        systemd.settimeout(DEADLINE_S)
        yield systemd


def test_a_streams_last_tokens_are_not_lost_at_the_stop() -> None:
    with running_daemon(script=SLOW) as daemon, daemon.client() as client:
        stream = client.complete("hello", max_tokens=60)
        assert isinstance(next(iter(stream)), Token)
        daemon.process.send_signal(signal.SIGTERM)
        assert stream.wait().finish_reason == "length"
        assert stream.text == "x" * 60
