"""Who does not read stops itself alone: credit, full outboxes, floods of requests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from time import monotonic

import pytest

from qwend.client import Client
from tests.support.daemon import RawClient, RunningDaemon, frame, running_daemon, wait_until
from tests.support.rows import reached, times

ASK = {"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 100_000}
MIB = 2**20


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(
        script={"answer": "x", "endless": True},
        QWEND_MODEL_CONTEXT="1000000",
        QWEND_LIMITS_OUTBOX_BYTES="4096",
        QWEND_LIMITS_SLOW_READER_S="0.3",
        QWEND_CACHE_PREFIX_MB="0",
    ) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def patient() -> Iterator[RunningDaemon]:
    """A daemon that lets a client leave its outbox unread for ever."""
    with running_daemon(
        script={"answer": "x", "endless": True},
        QWEND_MODEL_CONTEXT="1000000",
        QWEND_LIMITS_OUTBOX_BYTES="65536",
        QWEND_LIMITS_SLOW_READER_S="3600",
        QWEND_CACHE_PREFIX_MB="0",
    ) as daemon:
        yield daemon


def while_a_neighbour_streams(daemon: RunningDaemon) -> None:
    """Time in which 500 tokens are made and read: enough for one that is not due."""
    with daemon.client() as neighbour:
        assert neighbour.complete("neighbour", max_tokens=500).wait().usage.completion_tokens == 500


def tokens_of(raw: RawClient) -> int:
    return sum(len(one["ids"]) for one in raw.ping() if one["op"] == "token")


def front_rss(daemon: RunningDaemon) -> int:
    return int(daemon.status()["memory"]["front_rss_bytes"])


@pytest.mark.row("B2")
@pytest.mark.parametrize("credit", [0, 1, 3, 64, 100])
def test_as_many_tokens_come_as_were_allowed(daemon: RunningDaemon, credit: int) -> None:
    with daemon.raw() as raw:
        raw.send({**ASK, "credit": credit})
        came = 0
        while came < credit:
            token = raw.read_until("token", id=1)[-1]
            came += len(token["ids"])
        while_a_neighbour_streams(daemon)
        assert came + tokens_of(raw) == credit
        raw.send({"op": "credit", "id": 1, "tokens": 2})
        more = 0
        while more < 2:
            more += len(raw.read_until("token", id=1)[-1]["ids"])
        while_a_neighbour_streams(daemon)
        assert more + tokens_of(raw) == 2
    wait_until(daemon.is_idle, "nothing is left")


def test_a_paused_request_can_be_cancelled(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        raw.send({**ASK, "credit": 0})
        raw.read_until("accepted")
        raw.send({"op": "cancel", "id": 1})
        assert raw.read_until("done", id=1)[-1]["finish_reason"] == "cancelled"
    wait_until(daemon.is_idle, "nothing is left")


def test_who_reads_gets_a_long_answer_whole_without_giving_credit(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        done = client.complete("hello", max_tokens=3000).wait()
        assert done.usage.completion_tokens == 3000


@pytest.mark.row("B2")
def test_who_never_reads_is_cut_off_and_a_neighbour_is_not(daemon: RunningDaemon) -> None:
    with daemon.client() as neighbour, daemon.raw() as slow:
        stream = neighbour.complete("neighbour", max_tokens=4000)
        slow.send(ASK)
        wait_until(lambda: daemon.status()["engine"]["running"] == 2, "both run")
        done = stream.wait()
        assert done.usage.completion_tokens == 4000
        wait_until(daemon.is_idle, "the slow one's request has ended")
        wait_until(lambda: daemon.status()["connections"] == 2, "it is cut off")
        assert slow.read_to_the_end()[-1]["op"] == "token"
    assert "outbox was full and unread for 0.3 s" in daemon.log


def test_who_reads_slowly_but_reads_is_not_cut_off(daemon: RunningDaemon) -> None:
    """Its outbox is full now and then, and never for 0.3 s: it reads whenever it is."""
    with daemon.raw() as raw:
        raw.send({**ASK, "max_tokens": 5000})
        while raw.read_until("token")[-1]["index"] < 4999:
            continue
        assert raw.read_until("done")


@pytest.mark.row("B2")
def test_who_never_reads_costs_bounded_memory_and_work(patient: RunningDaemon) -> None:
    with patient.raw() as slow, patient.client() as client:
        before = front_rss(patient)
        slow.send(ASK)
        made = stands_still(client)
        assert made < 100_000
        assert front_rss(patient) - before < 8 * MIB
        assert slow.ping()[-1]["op"] == "token", "and reading brings it back to life"
    wait_until(patient.is_idle, "nothing is left")


def write_for_ever(raw: RawClient, data: bytes) -> None:
    while True:
        raw.socket.sendall(data)


def stands_still(client: Client) -> int:
    """Cells in use once they are no longer getting more, while a neighbour makes 200 tokens."""
    used = -1
    while True:
        client.complete("neighbour", max_tokens=200).wait()
        now = dict(client.status())["engine"]
        assert isinstance(now, dict)
        if now["used_cells"] == used:
            return used
        used = now["used_cells"]


@pytest.mark.row("B3")
@pytest.mark.parametrize("op", ["ping", "status", "nonsense", "tokenize"])
def test_a_flood_of_requests_that_reads_no_answer_is_not_read_on(
    patient: RunningDaemon, op: str
) -> None:
    """1. A client writes requests without end, and reads no answer. 2. Expected: the daemon stops
    reading from it, so that its writes no longer go through; it answers others, and has grown by
    no more than an outbox and an inbox."""
    fields = {"op": op, "id": 1, "text": "hello"} if op == "tokenize" else {"op": op}
    flood = frame(fields) * 5000
    before = front_rss(patient)
    with patient.raw() as raw, patient.client() as client:
        raw.socket.settimeout(1.0)
        with pytest.raises(TimeoutError):
            write_for_ever(raw, flood)
        assert client.ping() < 2.0
        assert front_rss(patient) - before < 8 * MIB
    wait_until(patient.is_idle, "nothing is left")


@pytest.mark.row("B3")
def test_a_client_that_is_cut_off_while_it_writes_too_is_no_deadlock(daemon: RunningDaemon) -> None:
    """Both directions are full: the daemon stops reading, and ends it all the same."""
    with daemon.raw() as raw:
        raw.socket.settimeout(10.0)
        raw.send(ASK)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            write_for_ever(raw, frame({"op": "ping"}) * 1000)
    wait_until(daemon.is_idle, "nothing is left")


def test_a_client_that_goes_while_its_outbox_is_full_is_noticed(patient: RunningDaemon) -> None:
    with patient.raw() as raw, patient.client() as client:
        raw.send(ASK)
        stands_still(client)
        raw.close()
        wait_until(patient.is_idle, "its request has ended")
        wait_until(lambda: patient.status()["connections"] == 2, "it is gone")


def test_half_a_close_while_reading_goes_on_ends_the_connection(patient: RunningDaemon) -> None:
    with patient.raw() as raw:
        raw.send(ASK)
        raw.read_until("token")
        raw.socket.shutdown(socket.SHUT_WR)
        raw.read_to_the_end()
    wait_until(patient.is_idle, "nothing is left")


CROWD = times(8, 100)


@pytest.mark.row("B2")
def test_a_crowd_that_does_not_read_is_cut_off_and_leaves_nothing() -> None:
    """Half of it never reads, and half a byte now and then. Beside it four clients that do."""
    settings = {
        "QWEND_MODEL_CONTEXT": "1000000",
        "QWEND_LIMITS_SLOW_READER_S": str(times(1, 10)),
        "QWEND_LIMITS_OUTBOX_BYTES": str(times(4096, 65_536)),
        "QWEND_LIMITS_RUNNING_PER_UID": str(CROWD + 4),
        "QWEND_ENGINE_MAX_SEQUENCES": str(CROWD + 4),
        "QWEND_CACHE_PREFIX_MB": "0",
    }
    with (
        running_daemon(script={"answer": "x", "endless": True}, **settings) as daemon,
        ExitStack() as undo,
    ):
        with daemon.client() as client:
            client.complete("hello", max_tokens=1000).wait()
        before = front_rss(daemon)
        slow = [undo.enter_context(daemon.raw()) for _ in range(CROWD)]
        readers = [undo.enter_context(daemon.client()) for _ in range(4)]
        for one in slow:
            one.send({**ASK, "max_tokens": 10_000})
        pool = undo.enter_context(ThreadPoolExecutor())
        reading = [pool.submit(one.complete("hello", max_tokens=1500).wait) for one in readers]
        most = before
        began = monotonic()
        while daemon.status()["engine"]["running"] > 0:
            most = max(most, front_rss(daemon))
            for one in slow[::2]:
                with suppress(OSError):  # it may be cut off by now
                    one.socket.recv(1)
        assert [one.result().usage.completion_tokens for one in reading] == [1500] * 4
        wait_until(daemon.is_idle, "nothing is left")
        assert daemon.status()["requests"]["failed"] == CROWD
        assert most - before < 128 * MIB
        reached("B2", f"{(most - before) >> 20} MiB more, {monotonic() - began:.1f} s")


def test_what_a_user_holds_half_sent_is_bounded_and_another_connection_lives() -> None:
    with (
        running_daemon(QWEND_LIMITS_HELD_BYTES_PER_UID=str(MIB)) as daemon,
        ExitStack() as undo,
        daemon.client() as bystander,
    ):
        half = (2**20).to_bytes(4, "big") + bytes(400_000)
        raws = [undo.enter_context(daemon.raw()) for _ in range(3)]
        for raw in raws:
            raw.send_bytes(half)
        raws[0].send_bytes(bytes(100_000))
        wait_until(lambda: "held more than 1048576 bytes" in daemon.log, "one is cut off")
        wait_until(lambda: bystander.status()["connections"] == 3, "and no more than one")
        assert bystander.ping() >= 0
