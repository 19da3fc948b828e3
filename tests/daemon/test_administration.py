"""What an administrator may tell the daemon, and what others are told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qwend.client import AsyncClient, RequestFailed
from tests.daemon.as_user import NOBODY, as_root, as_user
from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until

ASK = {"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 3}
ADMIN_GROUP = 4711


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    settings = {
        "QWEND_SOCKET_MODE": "0666",
        "QWEND_SOCKET_ALLOW_GROUPS": f"{NOBODY} {ADMIN_GROUP}",
    }
    with running_daemon(script={"answer": "x", "endless": True}, **settings) as daemon:
        daemon.admit_everybody()
        yield daemon


@contextmanager
def talking(daemon: RunningDaemon, uid: int, *groups: int) -> Iterator[RawClient]:
    """A greeted connection of this user, in its own group and these."""
    with (
        as_user(uid, groups=groups).connected(str(daemon.socket)) as connection,
        RawClient(connection) as client,
    ):
        yield client


def refused(client: RawClient) -> dict[str, Any]:
    client.send(ASK)
    error: dict[str, Any] = client.read_until("error")[-1]
    return error


def test_a_drained_daemon_finishes_what_is_open_and_takes_nothing_new(
    daemon: RunningDaemon,
) -> None:
    with daemon.client() as client, daemon.raw() as other:
        stream = client.complete("hello", max_tokens=100, credit=10)
        client.drain()
        status: dict[str, Any] = dict(client.status())
        assert (status["state"], status["requests"]["open"]) == ("draining", 1)
        error = refused(other)
        assert (error["code"], error["id"]) == ("busy", 1)
        assert error["retry_after_s"] > 0
        with pytest.raises(RequestFailed, match="qwenctl reload"):
            client.tokenize("hello")
        assert stream.wait().usage.completion_tokens == 100
        client.reload()
        assert client.status()["state"] == "ready"
        other.send(ASK)
        assert other.read_until("done")


def test_the_asyncio_client_administers_as_the_blocking_one_does(daemon: RunningDaemon) -> None:
    async def main() -> None:
        async with AsyncClient(daemon.socket) as client:
            await client.drain()
            with pytest.raises(RequestFailed, match="administrator"):
                await client.tokenize("hello")
            await client.reload()
            assert await client.tokenize("hi") == (104, 105)

    asyncio.run(main())


def test_an_engine_that_dies_while_it_is_drained_does_not_end_the_drain() -> None:
    with running_daemon(script={"answer": "x"}) as daemon, daemon.client() as client:
        client.drain()
        before: dict[str, Any] = dict(client.status())
        os.kill(before["engine"]["pid"], signal.SIGKILL)
        wait_until(lambda: daemon.status()["engine"]["restarts"] == 1, "it has died")
        wait_until(lambda: daemon.status()["engine"]["state"] == "ready", "another is ready")
        assert daemon.status()["state"] == "draining"
        with pytest.raises(RequestFailed, match="administrator"):
            client.complete("hello").wait()
        client.reload()
        assert client.complete("hello").wait()


def test_a_bad_configuration_is_told_to_who_asked_and_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "qwend.toml"
    file.write_text("[sampling]\nmax_tokens = 3\n")
    script = {"answer": "x", "endless": True}
    with (
        running_daemon("--config", str(file), script=script) as daemon,
        daemon.client() as client,
    ):
        client.drain()
        file.write_text("[limits]\nconnections = 0\n")
        with pytest.raises(RequestFailed, match="connections") as caught:
            client.reload()
        assert caught.value.code == "invalid_value"
        file.write_text('[socket]\nallow_users = "no-such-user"\n')
        with pytest.raises(RequestFailed, match="no-such-user"):
            client.reload()
        assert client.status()["state"] == "draining"
        file.write_text("[sampling]\nmax_tokens = 5\n[model]\ncontext = 512\n")
        client.reload()
        assert client.status()["needs_restart"] == ["model.context"]
        assert client.complete("hello").wait().usage.completion_tokens == 5


@as_root
@pytest.mark.row("G1")
@pytest.mark.parametrize("op", ["drain", "reload"])
def test_who_is_no_administrator_may_not(daemon: RunningDaemon, op: str) -> None:
    with talking(daemon, NOBODY) as client:
        client.send({"op": op, "id": 9})
        error = client.read_until("error")[-1]
        assert (error["id"], error["code"]) == (9, "forbidden")
        assert daemon.status()["state"] == "ready"
        client.send(ASK)
        assert client.read_until("done")


@as_root
def test_status_tells_an_administrator_of_everybody_and_others_of_themselves(
    daemon: RunningDaemon,
) -> None:
    with talking(daemon, NOBODY) as client, talking(daemon, 4712, ADMIN_GROUP):
        client.send({**ASK, "credit": 0})
        client.read_until("accepted")
        client.send({"op": "status"})
        own = client.read_until("status")[-1]["status"]["users"]
        assert own == [{"uid": NOBODY, "connections": 1, "running": 1, "waiting": 0}]
        users = daemon.status()["users"]
        assert [one["uid"] for one in users] == [0, 4712, NOBODY]
        assert own[0] in users
    wait_until(daemon.is_idle, "nothing is left")
