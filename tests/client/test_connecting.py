"""What a program is told when the daemon cannot be reached, for both clients."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwend.client import (
    AsyncClient,
    Client,
    DaemonUnreachable,
    PermissionDenied,
    RequestFailed,
)
from qwend.client.errors import connect_error
from qwend.wire import Connection, Error, Hello, Side
from tests.client.fake_daemon import Talk, fake_daemon

Connect = Callable[[Path, float], None]


def connect_blocking(path: Path, timeout_s: float) -> None:
    Client(path, timeout_s=timeout_s).close()


def connect_asyncio(path: Path, timeout_s: float) -> None:
    async def connect() -> None:
        async with AsyncClient(path, timeout_s=timeout_s):
            pass

    asyncio.run(connect())


@pytest.fixture(params=[connect_blocking, connect_asyncio])
def connect(request: pytest.FixtureRequest) -> Connect:
    chosen: Connect = request.param
    return chosen


def test_without_a_socket_the_hint_is_how_to_start_it(socket_path: Path, connect: Connect) -> None:
    with pytest.raises(DaemonUnreachable, match="systemctl start qwend") as caught:
        connect(socket_path, 5)
    assert caught.value.path == socket_path


def test_a_socket_left_behind_is_told_from_a_missing_one(
    socket_path: Path, connect: Connect
) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(socket_path))
    with pytest.raises(DaemonUnreachable, match="nobody listens"):
        connect(socket_path, 5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
def test_a_forbidden_socket_is_told_from_a_missing_one(socket_path: Path, connect: Connect) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        socket_path.chmod(0)
        with pytest.raises(PermissionDenied, match="ask the operator"):
            connect(socket_path, 5)


@pytest.mark.parametrize(
    ("group_id", "mode", "hint"),
    [
        (1, 0o660, "usermod -aG"),
        (1, 0o600, "ask the operator to set"),
        (0, 0o660, "ask the operator to set"),
    ],
)
def test_joining_a_group_is_advised_only_where_it_helps(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch, group_id: int, mode: int, hint: str
) -> None:
    facts = os.stat_result((stat.S_IFSOCK | mode, 0, 0, 1, 0, group_id, 0, 0, 0, 0))
    with monkeypatch.context() as patch:  # no longer than needed: pytest calls os.stat too
        patch.setattr(os, "stat", lambda path: facts)
        error = connect_error(socket_path, PermissionError(13, "Permission denied"))
    assert isinstance(error, PermissionDenied)
    assert hint in error.hint


def test_a_daemon_that_does_not_greet_is_unreachable(socket_path: Path, connect: Connect) -> None:
    def script(talk: Talk) -> None:
        talk.expect(Hello)
        assert talk.socket.recv(1) == b""

    with (
        fake_daemon(socket_path, script) as path,
        pytest.raises(DaemonUnreachable, match="may be stuck"),
    ):
        connect(path, 0.3)


def test_a_daemon_that_closes_without_a_word_is_unreachable(
    socket_path: Path, connect: Connect
) -> None:
    def script(talk: Talk) -> None:
        talk.expect(Hello)

    with (
        fake_daemon(socket_path, script) as path,
        pytest.raises(DaemonUnreachable, match="before it said welcome"),
    ):
        connect(path, 5)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Error("busy", "too many connections", retry_after_s=1), RequestFailed),
        (Error("forbidden", "not for uid 7"), PermissionDenied),
        (Error("protocol_mismatch", "this is qwend/2"), RequestFailed),
    ],
)
def test_a_refusal_instead_of_welcome_is_passed_on(
    socket_path: Path, connect: Connect, error: Error, kind: type[Exception]
) -> None:
    def script(talk: Talk) -> None:
        talk.say(error)
        assert talk.socket.recv(65536)  # a hello may still come

    with fake_daemon(socket_path, script) as path:
        with pytest.raises(kind, match=error.message) as caught:
            connect(path, 5)
        assert getattr(caught.value, "code", None) == error.code


def test_a_refusal_is_read_even_if_the_daemon_closed_before_hello(
    socket_path: Path, connect: Connect
) -> None:
    refusal = Connection(Side.DAEMON).send(Error("busy", "too many connections"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()

        def refuse() -> None:
            client, _ = listener.accept()
            client.sendall(refusal)
            client.close()

        # The client meets a socket that is closed already: connect returns when it is queued.
        with patched_connect(refuse), pytest.raises(RequestFailed, match="too many connections"):
            connect(socket_path, 5)


@contextmanager
def patched_connect(then: Callable[[], None]) -> Iterator[None]:
    """Run `then` between a client's connect and its hello."""
    plain = socket.socket.connect

    def connect(self: socket.socket, address: str) -> None:
        plain(self, address)
        then()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


def test_a_full_backlog_is_waited_for(socket_path: Path, connect: Connect) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as first,
        ThreadPoolExecutor(1) as pool,
    ):
        listener.bind(str(socket_path))
        listener.listen(0)
        first.connect(str(socket_path))
        connecting = pool.submit(connect, socket_path, 5)
        # Not before the client has met the full backlog: it waits in the kernel, or tries again.
        with pytest.raises(TimeoutError):
            connecting.result(0.1)
        listener.accept()[0].close()
        client, _ = listener.accept()
        with client:
            Talk(client).greet()
            connecting.result(5)


def test_a_backlog_that_stays_full_is_a_daemon_that_is_stuck(
    socket_path: Path, connect: Connect
) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(socket_path))
        listener.listen(0)
        first.connect(str(socket_path))
        with pytest.raises(DaemonUnreachable, match="may be stuck"):
            connect(socket_path, 0.2)
