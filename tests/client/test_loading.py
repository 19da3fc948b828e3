"""Both clients have a daemon load another model, and let go of the one it has."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qwend.client import AsyncClient, Client, Done, Progress, RequestFailed
from qwend.wire import Cancel, Error, Load, Ping, Pong, Unload
from tests.client.fake_daemon import Talk, fake_daemon

WAITING, LOADING = Progress(0, "waiting", 0, 2), Progress(0, "loading", 40, 100)


def load_and_unload(talk: Talk) -> None:
    talk.greet("loading")
    assert talk.expect(Load) == Load(0, "qwen3-0.6b")
    talk.say(WAITING, LOADING)
    talk.finish(0, "loaded")
    assert talk.expect(Unload) == Unload(1)
    talk.finish(1, "unloaded")
    talk.expect_end()


def old_daemon(talk: Talk) -> None:
    talk.greet("administration")
    talk.say(Pong(talk.expect(Ping).nonce))  # nothing came before it
    talk.expect_end()


def test_a_load_tells_its_progress_and_its_end(socket_path: Path) -> None:
    with fake_daemon(socket_path, load_and_unload) as path, Client(path) as client:
        stream = client.start_load("qwen3-0.6b")
        assert list(stream.events()) == [WAITING, LOADING]
        assert stream.wait().finish_reason == "loaded"
        assert client.unload().finish_reason == "unloaded"


def test_asyncio_has_the_same_orders(socket_path: Path) -> None:
    async def run(path: Path) -> tuple[Done, Done]:
        async with AsyncClient(path) as client:
            return await client.load("qwen3-0.6b"), await client.unload()

    with fake_daemon(socket_path, load_and_unload) as path:
        ends = asyncio.run(run(path))
    assert [each.finish_reason for each in ends] == ["loaded", "unloaded"]


def test_an_order_that_is_cancelled_is_read_to_its_end(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Unload)
        talk.say(WAITING)
        assert talk.expect(Cancel) == Cancel(0)
        talk.finish(0, "cancelled")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        stream = client.start_unload()
        assert next(iter(stream.events())) == WAITING
        stream.cancel()
        assert stream.wait().finish_reason == "cancelled"


def test_a_model_that_cannot_be_used_is_an_error_of_this_request(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.say(Error("model_error", "/m.gguf is empty", id=0))
        talk.expect_end()

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        with pytest.raises(RequestFailed, match="is empty") as failed:
            client.load("/m.gguf")
        assert failed.value.code == "model_error"


def test_to_a_daemon_that_cannot_nothing_is_sent(socket_path: Path) -> None:
    with fake_daemon(socket_path, old_daemon) as path, Client(path) as client:
        with pytest.raises(RequestFailed, match=r"fake 0\) cannot change its model") as failed:
            client.load("qwen3-0.6b")
        assert failed.value.code == "unsupported"
        with pytest.raises(RequestFailed, match="restart it"):
            client.unload()
        client.ping()


def test_asyncio_sends_it_nothing_either(socket_path: Path) -> None:
    async def run(path: Path) -> None:
        async with AsyncClient(path) as client:
            for order in (client.load("qwen3-0.6b"), client.unload()):
                with pytest.raises(RequestFailed, match="models default NAME"):
                    await order
            await client.ping()

    with fake_daemon(socket_path, old_daemon) as path:
        asyncio.run(run(path))
