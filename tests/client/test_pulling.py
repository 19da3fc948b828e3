"""Both clients have a daemon fetch a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qwend.client import AsyncClient, Client, Done, Progress, RequestFailed
from qwend.wire import Cancel, Error, Pull, Usage
from tests.client.fake_daemon import Talk, fake_daemon

HALF = Progress(0, "pulling", 512, 1024)


def pulled(talk: Talk) -> None:
    talk.greet("pull")
    assert talk.expect(Pull) == Pull(0, "qwen3-1.7b", name="mine", source="hub", offline=True)
    talk.say(HALF, Done(0, "pulled", Usage(0, 0, 0), model="mine"))
    talk.expect_end()


def test_a_pull_tells_its_progress_and_the_name_that_it_got(socket_path: Path) -> None:
    with fake_daemon(socket_path, pulled) as path, Client(path) as client:
        stream = client.start_pull("qwen3-1.7b", name="mine", source="hub", offline=True)
        assert list(stream.events()) == [HALF]
        assert stream.wait().model == "mine"


def test_asyncio_has_the_same_order(socket_path: Path) -> None:
    async def run(path: Path) -> Done:
        async with AsyncClient(path) as client:
            return await client.pull("qwen3-1.7b", name="mine", source="hub", offline=True)

    with fake_daemon(socket_path, pulled) as path:
        assert asyncio.run(run(path)).model == "mine"


def test_a_pull_that_is_cancelled_is_read_to_its_end(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet("pull")
        talk.expect(Pull)
        talk.say(HALF)
        assert talk.expect(Cancel) == Cancel(0)
        talk.finish(0, "cancelled")

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        stream = client.start_pull("qwen3-1.7b")
        assert next(iter(stream.events())) == HALF
        stream.cancel()
        assert stream.wait().finish_reason == "cancelled"


def test_what_cannot_be_fetched_is_an_error_of_this_request(socket_path: Path) -> None:
    def script(talk: Talk) -> None:
        talk.greet("pull")
        assert talk.expect(Pull) == Pull(0, "qwen3-1.7b")
        talk.say(Error("fetch_failed", "the hub has gone", id=0))
        talk.expect_end()

    with fake_daemon(socket_path, script) as path, Client(path) as client:
        with pytest.raises(RequestFailed, match="the hub has gone") as failed:
            client.pull("qwen3-1.7b")
        assert failed.value.code == "fetch_failed"
