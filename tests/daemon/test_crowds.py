"""Many connections of several users: limits hold, and another user is served all the same."""

from __future__ import annotations

import resource
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest

from tests.daemon.as_user import as_root, as_user
from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until
from tests.support.rows import reached, times

# The shape of the row at a sixteenth of its size: 1,000 of 1,024 places, and 500 beyond.
PLACES = times(64, 1024)
PER_UID = PLACES // 8
LAST = PLACES // 64
UIDS = range(4900, 4908)
NEWCOMER = 4910
ASK = {"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 3}
SCRIPT = {"answer": "x", "endless": True}


@contextmanager
def daemon_with(**limits: Any) -> Iterator[RunningDaemon]:
    settings = {f"QWEND_LIMITS_{name.upper()}": str(value) for name, value in limits.items()}
    with running_daemon(script=SCRIPT, QWEND_SOCKET_MODE="0666", **settings) as daemon:
        daemon.admit_everybody()
        yield daemon


def greeted(connection: socket.socket) -> tuple[RawClient, str]:
    """What a hello is answered with: `welcome`, or the code of the error."""
    client = RawClient(connection, hello=False)
    client.send({"op": "hello", "protocol": "qwend/1"})
    answer = client.read()
    assert answer is not None
    return client, answer["code"] if answer["op"] == "error" else answer["op"]


def connect(daemon: RunningDaemon, crowd: ExitStack, uid: int, count: int) -> Counter[str]:
    """How many of the user's connections were answered how; they stay open."""
    found = crowd.enter_context(as_user(uid).connections(str(daemon.socket), count))
    return Counter(greeted(one)[1] for one in found)


def assert_served(daemon: RunningDaemon, uid: int) -> float:
    """Seconds from connecting to the end of an answer."""
    with as_user(uid).connected(str(daemon.socket)) as connection:
        begin = time.monotonic()
        client, answer = greeted(connection)
        assert answer == "welcome"
        client.send(ASK)
        client.read_until("done")
        return time.monotonic() - begin


def rss_anon(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss - psutil.Process(pid).memory_info().shared)


@as_root
@pytest.mark.row("B1")
def test_a_crowd_of_eight_users_leaves_room_for_a_ninth() -> None:
    with (
        daemon_with(connections=PLACES, connections_per_uid=PER_UID) as daemon,
        ExitStack() as crowd,
    ):
        before = rss_anon(daemon.process.pid)
        each = PER_UID - LAST // 4 - 1
        for uid in UIDS:
            assert connect(daemon, crowd, uid, each) == {"welcome": each}
        grown = (rss_anon(daemon.process.pid) - before) / (8 * each)
        beyond: Counter[str] = Counter()
        for uid in UIDS:
            beyond += connect(daemon, crowd, uid, PLACES // 16)
        most = PLACES - LAST
        assert beyond == {"welcome": most - 8 * each, "busy": 8 * (PLACES // 16 + each) - most}
        took = assert_served(daemon, NEWCOMER)
        assert daemon.status()["connections"] == most + 1, "root has none yet either"
        reached("B1", f"{most} connections, {grown / 1024:.0f} KiB each; a newcomer: {took:.3f} s")


@as_root
@pytest.mark.row("B1")
def test_a_crowd_that_says_nothing_is_sent_away_and_keeps_nobody_out() -> None:
    count = PER_UID - 1
    with (
        daemon_with(
            connections=PLACES, connections_per_uid=PER_UID, hello_timeout_s=times(1, 10)
        ) as daemon,
        ExitStack() as crowd,
    ):
        begin = time.monotonic()
        silent: list[socket.socket] = []
        for uid in UIDS:
            silent += crowd.enter_context(as_user(uid).connections(str(daemon.socket), count))
        assert_served(daemon, NEWCOMER)
        for connection in silent:
            (error,) = RawClient(connection, hello=False).read_to_the_end()
            assert error["code"] in ("hello_timeout", "busy")
        assert_served(daemon, UIDS[0])
        reached("B1", f"{len(silent)} half-open ones gone {time.monotonic() - begin:.1f} s later")


@as_root
@pytest.mark.row("B1")
def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    with daemon_with() as daemon, daemon.client() as client:
        client.complete("hello", max_tokens=1).wait()
        front = psutil.Process(daemon.process.pid)
        before = front.num_fds()
        for _ in range(times(5, 600)):
            with as_user(NEWCOMER).connections(str(daemon.socket), 100):
                client.ping()
        wait_until(lambda: daemon.status()["connections"] == 2, "they are gone")
        wait_until(lambda: front.num_fds() == before, "so are their descriptors")


@as_root
@pytest.mark.row("D3")
def test_a_daemon_with_64_descriptors_takes_what_it_has_room_for() -> None:
    """1. 200 clients come. Expected: those it has room for are greeted, the others are told so, and
    it has descriptors left for itself. 2. They go. Expected: others are served."""
    with daemon_with(connections_per_uid=1024) as daemon:
        front = psutil.Process(daemon.process.pid)
        with daemon.client() as client:
            resource.prlimit(front.pid, resource.RLIMIT_NOFILE, (64, 64))
            client.reload()  # which looks at the limit again
        wait_until(lambda: daemon.status()["connections"] == 1, "nobody else is there")
        with ExitStack() as crowd:
            answers = connect(daemon, crowd, NEWCOMER, 200)
            assert answers == {"welcome": 32, "busy": 168}
            assert front.num_fds() < 64
            assert "leaves room for 32 connections" in daemon.log
            lines = daemon.log.count("\n")
            cpu = front.cpu_times()
            begin = time.monotonic()
            connect(daemon, crowd, NEWCOMER, 200)
            if times(0, 1):
                time.sleep(10)
            spent = sum(front.cpu_times()[:2]) - sum(cpu[:2])
            share = spent / (time.monotonic() - begin)
            assert daemon.log.count("\n") == lines
        begin = time.monotonic()
        wait_until(lambda: front.num_fds() < 40, "they are gone")
        assert_served(daemon, NEWCOMER)
        reached("D3", f"CPU {share:.1%}; served {time.monotonic() - begin:.3f} s after they went")


@as_root
@pytest.mark.row("D4")
def test_many_processes_of_one_user_have_no_more_than_one() -> None:
    processes, each = times(4, 64), 8
    allowed = processes * each // 4
    with (
        daemon_with(connections=16 * allowed, connections_per_uid=allowed) as daemon,
        ExitStack() as crowd,
    ):
        answers: Counter[str] = Counter()
        for _ in range(processes):
            answers += connect(daemon, crowd, UIDS[0], each)
        assert answers == {"welcome": allowed, "busy": 3 * allowed}
        took = assert_served(daemon, UIDS[1])
        reached("D4", f"{allowed} of {processes * each}; another user's answer: {took:.3f} s")
