"""An answer outlives its connection: over the next one it goes on where its reader was."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.client import AskedAgain, AsyncClient, Client, ClientError, ConnectionLost, Token
from tests.daemon.fake_systemd import fake_systemd
from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until

pytestmark = pytest.mark.row("C1")
DIGITS = {"answer": "0123456789", "endless": True, "step_s": 0.002}
KEY = "a key of the test"


def break_off(client: Client | AsyncClient) -> None:
    """As if the connection were lost: both sides see its end."""
    connection = client._channel._socket
    assert isinstance(connection, socket.socket)
    connection.shutdown(socket.SHUT_RDWR)


def test_a_stream_goes_on_over_another_connection() -> None:
    with running_daemon(script=DIGITS) as daemon, daemon.client() as client:
        streams = [client.complete(f"{number}", max_tokens=400) for number in range(2)]
        for _ in range(2):
            for stream in streams:
                assert next(iter(stream)).text
            break_off(client)
        for stream in streams:
            done = stream.wait()
            assert stream.text == "0123456789" * 40
            assert (done.finish_reason, done.usage.completion_tokens) == ("length", 400)
        wait_until(daemon.is_idle, "nothing is left")
        assert client.chat("and on", max_tokens=3).wait().finish_reason == "length"


def test_streams_of_an_asyncio_client_go_on_over_another_connection() -> None:
    async def read(client: AsyncClient, number: int) -> str:
        stream = await client.complete(f"{number}", max_tokens=400)
        async for token in stream:
            if token.index == 50 * (number + 1):
                break_off(client)
        assert stream.result is not None
        return stream.text

    async def read_all(path: str) -> list[str]:
        async with AsyncClient(path) as client:
            return await asyncio.gather(*(read(client, number) for number in range(3)))

    with running_daemon(script=DIGITS) as daemon:
        texts = asyncio.run(read_all(str(daemon.socket)))
        assert texts == ["0123456789" * 40] * 3


def test_a_lost_connection_frees_the_cells_and_the_answer_can_be_had_for_a_minute() -> None:
    with running_daemon(script=DIGITS) as daemon:
        with RawClient(daemon.socket) as client:
            request = {"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 300}
            client.send({**request, "resume": KEY})
            said = client.read_until("token")
        wait_until(lambda: daemon.status()["engine"]["used_cells"] == 0, "its cells are free")
        assert said[-1]["index"] == 0
        with RawClient(daemon.socket) as client:
            client.send({"op": "resume", "id": 7, "key": KEY, "from": 1, "text_chars": 1})
            rest = client.read_until("done")
            tokens = [one for one in rest if one["op"] == "token"]
            assert "".join(one["text"] for one in tokens) == ("0123456789" * 30)[1:]
            assert bytes(id_ for one in tokens for id_ in one["ids"]) == (b"0123456789" * 30)[1:]
            assert rest[-1]["id"] == 7
            assert rest[-1]["usage"]["completion_tokens"] == 300
            # Its end is remembered for whoever did not hear it.
            client.send({"op": "resume", "id": 8, "key": KEY, "from": 300, "text_chars": 300})
            assert [one["op"] for one in client.read_until("done")] == ["accepted", "done"]


def test_nobody_else_may_have_it_and_nobody_twice() -> None:
    with running_daemon(script=DIGITS) as daemon, RawClient(daemon.socket) as client:
        request = {"op": "complete", "prompt": "hello", "credit": 1, "resume": KEY}
        client.send({**request, "id": 1})
        client.read_until("token")
        client.send({**request, "id": 2})
        refused = client.read_until("error")[-1]
        assert (refused["id"], refused["code"]) == (2, "invalid_value")
        client.send({"op": "resume", "id": 3, "key": "another key", "from": 0, "text_chars": 0})
        assert client.read_until("error")[-1]["code"] == "unknown_request"
        with RawClient(daemon.socket) as second:
            second.send({"op": "resume", "id": 5, "key": KEY, "from": 1, "text_chars": 1})
            second.read_until("accepted")
            second.send({"op": "cancel", "id": 5})
            assert second.read_until("done")[-1]["finish_reason"] == "cancelled"
        client.ping()


def test_leaving_a_client_ends_what_it_has_open() -> None:
    with running_daemon(script=DIGITS) as daemon:
        with daemon.client() as client:
            next(iter(client.complete("hello", ignore_eos=True)))
        wait_until(lambda: daemon.status()["requests"]["open"] == 0, "nothing waits for it")


def test_an_answer_is_asked_again_only_if_the_daemon_knows_nothing_of_it(tmp_path: Path) -> None:
    with running_daemon(script=DIGITS) as daemon, daemon.client() as client:
        stream = client.complete("hello", max_tokens=400)
        events = stream.events()
        assert any(isinstance(event, Token) for event in events)
        daemon.restart(signal.SIGKILL)
        rest = list(events)
        assert sum(isinstance(event, AskedAgain) for event in rest) == 1
        anew = rest[rest.index(AskedAgain()) + 1 :]
        assert next(one for one in anew if isinstance(one, Token)).index == 0
        assert stream.text == "0123456789" * 40


def test_without_a_daemon_the_loss_is_told(short_daemon: RunningDaemon) -> None:
    with Client(short_daemon.socket, reconnect_s=0.2) as client:
        stream = client.complete("hello", ignore_eos=True)
        next(iter(stream))
        short_daemon.process.kill()
        with pytest.raises(ConnectionLost):
            stream.wait()
        with pytest.raises(ClientError):
            client.chat("hello").wait()


@pytest.fixture
def short_daemon() -> Iterator[RunningDaemon]:
    with running_daemon(script=DIGITS) as daemon:
        yield daemon


def test_a_front_killed_at_any_moment_breaks_no_stream_of_the_library() -> None:
    """Not at a moment that is chosen: the connection may be in doubt, and then it is another."""
    with fake_systemd() as systemd:
        systemd.start_and_wait(DIGITS)
        with Client(str(systemd.listener.getsockname())) as client:
            stream = client.complete("hello", max_tokens=1500)
            for _ in range(3):
                for token in stream:
                    if token.index % 100 == 99:
                        break
                systemd.stop(signal.SIGKILL)
                systemd.start_and_wait(DIGITS)
            events = list(stream.events())
            assert not any(isinstance(event, AskedAgain) for event in events)
            assert stream.text == "0123456789" * 150
