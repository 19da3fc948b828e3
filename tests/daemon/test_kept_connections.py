"""Connections outlive the front: systemd keeps them, and the next one goes on where it was."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.client import Client
from qwend.daemon.kept_connection import PAGES_NAME
from qwend.daemon.kept_page import Doubt
from tests.daemon.fake_systemd import FakeSystemd, fake_systemd
from tests.support.daemon import DEADLINE_S, RawClient, frame

SLOW = {"answer": "x", "endless": True, "step_s": 0.002}


@pytest.fixture
def systemd() -> Iterator[FakeSystemd]:
    with fake_systemd() as one:
        one.start_and_wait({})
        yield one


def answer(client: RawClient, text: str, client_id: int) -> str:
    client.send({"op": "complete", "id": client_id, "prompt": text})
    messages = client.read_until("done", id=client_id)
    assert {message["op"] for message in messages} <= {"progress", "accepted", "token", "done"}
    return "".join(message["text"] for message in messages if message["op"] == "token")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGTERM])
def test_an_idle_connection_goes_on_with_the_next_front(
    systemd: FakeSystemd, number: signal.Signals
) -> None:
    with systemd.greeted() as client:
        assert answer(client, "before", 1) == "before"
        systemd.wait_for_doubt(Doubt.NONE)
        systemd.stop(number)
        systemd.start_and_wait({})
        assert answer(client, "after", 2) == "after"
        # Not only once.
        systemd.wait_for_doubt(Doubt.NONE)
        systemd.stop(number)
        systemd.start_and_wait({})
        assert answer(client, "again", 2) == "again"


def test_a_client_of_the_library_notices_nothing(systemd: FakeSystemd) -> None:
    with Client(str(systemd.listener.getsockname())) as client:
        assert client.ping() > 0
        systemd.until(lambda: len(systemd.connections) == 1, "its connection is kept")
        systemd.kill()
        systemd.start_and_wait({})
        stream = client.chat("still there?")
        assert stream.wait().finish_reason == "stop"
        assert stream.text == "still there?"


def test_a_request_sent_while_there_is_no_front_is_answered_by_the_next(
    systemd: FakeSystemd,
) -> None:
    with systemd.greeted() as client:
        systemd.kill()
        client.send({"op": "complete", "id": 7, "prompt": "early"})
        systemd.start_and_wait({})
        done = client.read_until("done")[-1]
        assert done["id"] == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_stream_goes_on_at_its_next_token_with_the_next_front(number: signal.Signals) -> None:
    """Twice, and beside one that waits in the queue of the front."""
    settings = {"QWEND_LIMITS_RUNNING_PER_UID": "1"}
    digits = {"answer": "0123456789", "endless": True, "step_s": 0.002}
    with fake_systemd() as systemd:
        systemd.start_and_wait(digits, **settings)
        with systemd.greeted() as client:
            client.send({"op": "complete", "id": 9, "prompt": "hello", "max_tokens": 2000})
            client.send({"op": "complete", "id": 10, "prompt": "waits", "max_tokens": 3})
            messages = client.read_until("token", id=9)
            for _ in range(2):
                if number is signal.SIGKILL:
                    systemd.kill()
                else:
                    systemd.stop(number)
                systemd.start_and_wait(digits, **settings)
                for _ in range(100):
                    message = client.read()
                    assert message is not None
                    messages.append(message)
            if not any(one["op"] == "done" for one in messages):
                messages += client.read_until("done", id=9)
            mine = [one for one in messages if one["id"] == 9]
            assert {one["op"] for one in mine} <= {"progress", "accepted", "token", "done"}
            assert sum(one["op"] == "accepted" for one in mine) == 1
            tokens = [one for one in mine if one["op"] == "token"]
            assert "".join(one["text"] for one in tokens) == "0123456789" * 200
            assert [one["index"] for one in tokens] == list(range(2000))
            assert mine[-1]["usage"]["completion_tokens"] == 2000
            waited = client.read_until("done", id=10)
            assert "".join(one.get("text", "") for one in waited) == "012"


def test_credit_that_was_given_counts_with_the_next_front() -> None:
    with fake_systemd() as systemd:
        systemd.start_and_wait(SLOW)
        with systemd.greeted() as client:
            client.send({"op": "complete", "id": 9, "prompt": "hello", "credit": 2})
            client.send({"op": "credit", "id": 9, "tokens": 1})
            assert len(tokens_of(client, 3)) == 3
            systemd.kill()
            systemd.start_and_wait(SLOW)
            client.send({"op": "ping"})
            assert [one["op"] for one in client.read_until("pong")] == ["pong"]
            client.send({"op": "credit", "id": 9, "tokens": 2})
            assert [one["index"] for one in tokens_of(client, 2)] == [3, 4]
            client.send({"op": "cancel", "id": 9})
            assert client.read_until("done")[-1]["usage"]["completion_tokens"] == 5


def test_a_deadline_goes_on_over_the_front() -> None:
    with fake_systemd() as systemd:
        systemd.start_and_wait(SLOW)
        with systemd.greeted() as client:
            request = {"op": "complete", "id": 9, "prompt": "hello", "credit": 1}
            client.send({**request, "deadline_s": 0.5})
            client.read_until("token", id=9)
            systemd.kill()
            systemd.start_and_wait(SLOW)
            assert client.read_until("error")[-1]["code"] == "deadline_exceeded"


def tokens_of(client: RawClient, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found.append(client.read_until("token")[-1])
    return found


def test_a_part_of_a_message_is_not_lost(systemd: FakeSystemd) -> None:
    """Read by the front that is killed, and completed for the next."""
    with systemd.greeted() as client:
        message = frame({"op": "complete", "id": 1, "prompt": "in two parts"})
        client.send_bytes(frame({"op": "ping"}) + message[:20])
        client.read_until("pong")
        systemd.kill()
        systemd.start_and_wait({})
        client.send_bytes(message[20:])
        assert client.read_until("done")[-1]["id"] == 1


def test_a_part_that_is_too_long_to_be_kept_ends_the_connection_with_a_word(
    systemd: FakeSystemd,
) -> None:
    with systemd.greeted() as client:
        message = frame({"op": "complete", "id": 1, "prompt": "x" * 100_000})
        client.send_bytes(frame({"op": "ping"}) + message[:50_000])
        client.read_until("pong")
        systemd.kill(Doubt.READING)
        systemd.start_and_wait({})
        assert [one["op"] for one in client.read_to_the_end()] == ["goaway"]


def test_a_restart_says_no_goodbye_and_a_stop_ends_with_the_store(systemd: FakeSystemd) -> None:
    with systemd.greeted() as client:
        assert systemd.stop() == 0
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.settimeout(DEADLINE_S)
        systemd.drop_store()
        assert client.read() is None


def test_a_connection_that_ends_is_no_longer_kept_and_sees_its_end(systemd: FakeSystemd) -> None:
    with systemd.greeted() as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read() is None
        systemd.until(lambda: not systemd.connections, "the store is empty again")


def test_a_connection_that_breaks_the_protocol_is_told_and_closed(systemd: FakeSystemd) -> None:
    with systemd.greeted() as client:
        client.send_bytes(bytes(4))
        assert [one["op"] for one in client.read_to_the_end()] == ["error"]
        systemd.until(lambda: not systemd.connections, "the store is empty again")


def test_places_are_used_again_and_more_than_there_are_is_no_fault() -> None:
    with fake_systemd(store_size=4) as systemd:
        systemd.start_and_wait({})
        for _ in range(5):
            with systemd.greeted(), systemd.greeted(), systemd.client() as third:
                third.ping()
                assert len(systemd.connections) == 2
            systemd.until(lambda: not systemd.connections, "all are gone")
        with systemd.greeted() as kept, systemd.greeted(), systemd.client() as left_out:
            systemd.stop()
            systemd.start_and_wait({})
            assert [one["op"] for one in left_out.read_to_the_end()] == ["goaway"]
            assert answer(kept, "after", 1) == "after"


def test_without_a_store_everybody_is_told_goodbye() -> None:
    with fake_systemd() as systemd:
        systemd.start_and_wait({}, FDSTORE="")
        with systemd.client() as client:
            client.ping()
            assert systemd.stop() == 0
            assert [one["op"] for one in client.read_to_the_end()] == ["goaway"]
        assert systemd.store == {}


def test_a_connection_that_has_not_said_hello_is_not_kept(systemd: FakeSystemd) -> None:
    # Accepted in order: the one that is greeted later shows that the first was.
    with systemd.client(hello=False) as client, systemd.greeted():
        systemd.kill()
        systemd.start_and_wait({})
        assert client.read() is None


def test_pages_of_another_format_end_their_connections_and_new_ones_are_kept(
    systemd: FakeSystemd,
) -> None:
    with systemd.greeted() as client:
        systemd.kill()
        os.pwrite(systemd.store[PAGES_NAME], b"from the future", 0)
        systemd.start_and_wait({})
        assert client.read_to_the_end() == []
        with systemd.greeted() as another:
            systemd.kill()
            systemd.start_and_wait({})
            assert answer(another, "after", 1) == "after"


def test_what_the_client_can_do_is_remembered() -> None:
    script = {"thinks": True, "answer": "<think>hm</think>yes"}
    with fake_systemd() as systemd:
        systemd.start_and_wait(script)
        with systemd.client(hello=False) as client:
            client.send({"op": "hello", "protocol": "qwend/1", "capabilities": ["reasoning"]})
            client.ping()
            systemd.until(lambda: len(systemd.connections) == 1, "it is kept")
            systemd.kill()
            systemd.start_and_wait(script)
            chat = {"op": "chat", "id": 1, "messages": [{"role": "user", "content": "hello"}]}
            client.send(chat)
            assert any(one.get("reasoning") for one in client.read_until("done"))


def test_the_engine_has_none_of_it(systemd: FakeSystemd) -> None:
    with systemd.greeted() as client:
        client.send({"op": "status"})
        pid = client.read_until("status")[-1]["status"]["engine"]["pid"]
        environ = Path(f"/proc/{pid}/environ").read_bytes()
        assert not {b"NOTIFY_SOCKET", b"LISTEN_FDS", b"FDSTORE"} & {
            one.partition(b"=")[0] for one in environ.split(b"\0")
        }
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [link for link in links if "qwend-connections" in link]
        # Its end of the hop.
        assert sum(link.startswith("socket:") for link in links) == 1
