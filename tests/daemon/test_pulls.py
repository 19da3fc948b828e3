"""Who waits for a pull and what each hears, from a service that says what the test wants."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qwend.daemon.fetcher import LINE_BYTES, Fetcher
from qwend.daemon.pulls import MOST, Pulls
from qwend.wire import Done, Error, Progress, Pull, limits
from qwend.wire.codes import ErrorCode
from qwend.wire.messages import DaemonMessage

WAIT_S = 30.0


@dataclass(eq=False)
class Owner:
    """One connection; `heard` is what it was sent."""

    uid: int = 1000
    congested: bool = False
    page: int = 0
    heard: list[DaemonMessage] = field(default_factory=list)

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        self.heard.append(message)

    @property
    def end(self) -> Done | Error:
        (end,) = (one for one in self.heard if isinstance(one, Done | Error))
        return end


@dataclass
class Worker:
    """One connection to the service: what it was asked, and what it says."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    asked: dict[str, Any]

    def say(self, **fields: Any) -> None:
        self.writer.write(json.dumps(fields).encode() + b"\n")

    async def left(self) -> None:
        """Until the other end is closed."""
        assert await asyncio.wait_for(self.reader.read(), WAIT_S) == b""


@dataclass
class Scene:
    pulls: Pulls
    workers: asyncio.Queue[Worker]

    async def worker(self) -> Worker:
        return await asyncio.wait_for(self.workers.get(), WAIT_S)


async def until(condition: Callable[[], Any]) -> None:
    async def looking() -> None:
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(looking(), WAIT_S)


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    workers: asyncio.Queue[Worker] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        workers.put_nowait(Worker(reader, writer, json.loads(await reader.readline())))

    path = directory / "pull.sock"
    server = await asyncio.start_unix_server(answer, path)
    pulls = Pulls(Fetcher(path, directory / "models", {}))
    try:
        yield Scene(pulls, workers)
    finally:
        server.close()
        pulls.refuse(ErrorCode.SHUTTING_DOWN, "over")
        await pulls.close()
        for writer in writers:
            writer.close()


def run(tmp_path: Path, test: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with scene(tmp_path) as one:
            await test(one)

    asyncio.run(main())


def test_the_service_is_asked_what_was_asked(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        one.pulls.take(Owner(), Pull(3, "hf:o/r/f.gguf", "mine", "ab", "hub", True, True))
        asked = (await one.worker()).asked
        assert asked == {
            "model": "hf:o/r/f.gguf",
            "name": "mine",
            "sha256": "ab",
            "source": "hub",
            "any_architecture": True,
            "offline": True,
        }
        one.pulls.take(Owner(), Pull(3, "qwen3-1.7b"))
        asked = (await one.worker()).asked
        assert (asked["name"], asked["sha256"], asked["source"]) == ("", "", "auto")

    run(tmp_path, test)


def test_two_who_ask_for_the_same_share_one_pull_and_both_hear_its_end(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        first, second = Owner(), Owner()
        one.pulls.take(first, Pull(1, "qwen3-1.7b"))
        worker = await one.worker()
        worker.say(progress=["fetching", 4 << 20, 8 << 20])
        await until(lambda: len(first.heard) == 2)
        one.pulls.take(second, Pull(7, "qwen3-1.7b"))
        assert second.heard == [Progress(7, "pulling", 4096, 8192)]
        assert one.pulls.open_ids(second) == (7,)
        worker.say(done="qwen3-1.7b", fetched_bytes=8 << 20)
        await until(lambda: isinstance(second.heard[-1], Done))
        for owner in (first, second):
            end = owner.end
            assert isinstance(end, Done)
            assert (end.finish_reason, end.model) == ("pulled", "qwen3-1.7b")
        assert (first.end.id, second.end.id) == (1, 7)
        assert one.workers.empty()
        assert one.pulls.open_ids(first) == one.pulls.open_ids(second) == ()
        one.pulls.take(first, Pull(2, "qwen3-1.7b"))
        await one.worker()  # it is over: the next one begins anew

    run(tmp_path, test)


def test_who_leaves_last_stops_it(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        first, second, third = Owner(), Owner(), Owner()
        for id_, owner in enumerate((first, second, third)):
            one.pulls.take(owner, Pull(id_, "m"))
        worker = await one.worker()
        assert one.pulls.cancel(first, 0)
        assert isinstance(first.end, Done)
        assert first.end.finish_reason == "cancelled"
        assert not one.pulls.cancel(first, 0)
        one.pulls.drop(second)
        worker.say(progress=["fetching", 1024, 2048])
        await until(lambda: len(third.heard) == 2)
        assert len(second.heard) == 1
        assert one.pulls.cancel(third, 2)
        await worker.left()
        assert not one.pulls.cancel(third, 2)

    run(tmp_path, test)


def test_only_a_few_are_pulled_at_once(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        owner = Owner()
        for number in range(MOST):
            one.pulls.take(owner, Pull(number, f"m{number}"))
        one.pulls.take(owner, Pull(99, "one-more"))
        refused = owner.heard[-1]
        assert isinstance(refused, Error)
        assert (refused.id, refused.code) == (99, "busy")
        assert refused.retry_after_s
        assert one.pulls.open_ids(owner) == tuple(range(MOST))
        one.pulls.take(owner, Pull(98, "m0"))  # joining costs nothing
        assert 98 in one.pulls.open_ids(owner)

    run(tmp_path, test)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("config", "invalid_value"),
        ("name_taken", "invalid_value"),
        ("no_space", "no_space"),
        ("disk", "storage_error"),
        ("host", "storage_error"),
        ("model_error", "model_error"),
        # Of a hub: this client is not forbidden anything.
        ("forbidden", "fetch_failed"),
        ("not_found", "fetch_failed"),
        ("wrong_bytes", "fetch_failed"),
        ("something new", "fetch_failed"),
    ],
)
def test_each_error_is_one_of_the_protocol(tmp_path: Path, code: str, told: str) -> None:
    async def test(one: Scene) -> None:
        owner = Owner()
        one.pulls.take(owner, Pull(1, "m"))
        (await one.worker()).say(error="the disk, or so", code=code)
        await until(lambda: len(owner.heard) == 2)
        assert isinstance(owner.end, Error)
        assert (owner.end.code, owner.end.message) == (told, "the disk, or so")

    run(tmp_path, test)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"nonsense\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b'{"progress": ["fetching", 1]}\n',
        b'{"progress": ["fetching", "1", 2]}\n',
        b'{"done": "../../etc/passwd", "fetched_bytes": 1}\n',
        b'{"done": 1}\n',
        b'{"error": "no code"}\n',
        b"x" * (LINE_BYTES + 1),
    ],
    ids=lambda said: str(said[:24]),
)
def test_a_service_that_dies_or_lies_ends_it_once(tmp_path: Path, said: bytes) -> None:
    async def test(one: Scene) -> None:
        owner = Owner()
        one.pulls.take(owner, Pull(1, "m"))
        worker = await one.worker()
        worker.writer.write(said)
        worker.writer.close()
        await until(lambda: len(owner.heard) > 1)
        assert isinstance(owner.end, Error)
        assert owner.end.code == "fetch_failed"
        assert ("makes no sense" if said else "without a word") in owner.end.message
        assert one.pulls.open_ids(owner) == ()

    run(tmp_path, test)


def test_sizes_are_in_kib_and_none_is_more_than_the_protocol_carries(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        owner = Owner()
        one.pulls.take(owner, Pull(1, "m"))
        worker = await one.worker()
        worker.say(progress=["rereading", 5 << 30, 1 << 50])
        worker.say(progress=["asking", -1, 0])
        await until(lambda: len(owner.heard) == 3)
        assert owner.heard == [
            Progress(1, "pulling", 0, 0),
            Progress(1, "checking", 5 << 20, limits.COUNT_MAX),
            Progress(1, "pulling", 0, 0),
        ]

    run(tmp_path, test)


def test_who_does_not_read_is_told_the_end_alone(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        slow, other = Owner(congested=True), Owner()
        one.pulls.take(slow, Pull(1, "m"))
        one.pulls.take(other, Pull(1, "m"))
        worker = await one.worker()
        for done in range(5):
            worker.say(progress=["fetching", done << 10, 0])
        worker.say(done="m", fetched_bytes=0)
        await until(lambda: len(other.heard) == 7)
        assert len(slow.heard) == 2
        assert isinstance(slow.end, Done)

    run(tmp_path, test)


def test_a_stop_of_the_daemon_ends_all_of_them(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        owner = Owner()
        one.pulls.take(owner, Pull(1, "m"))
        worker = await one.worker()
        one.pulls.refuse(ErrorCode.SHUTTING_DOWN, "it is stopping")
        assert isinstance(owner.end, Error)
        assert owner.end.code == "shutting_down"
        await worker.left()
        await one.pulls.close()
        late = Owner()
        one.pulls.take(late, Pull(1, "m"))
        assert isinstance(late.end, Error)
        assert late.end.code == "shutting_down"

    run(tmp_path, test)


def test_a_daemon_that_never_came_so_far_as_to_stop_waits_for_no_pull(tmp_path: Path) -> None:
    async def test(one: Scene) -> None:
        one.pulls.take(Owner(), Pull(1, "m"))
        worker = await one.worker()
        await asyncio.wait_for(one.pulls.close(), WAIT_S)
        await worker.left()

    run(tmp_path, test)


def test_what_may_be_a_secret_is_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(one: Scene) -> None:
        owner = Owner(uid=4711)
        one.pulls.take(owner, Pull(1, "https://h/m.gguf?token=secret\nqwend: all is well"))
        worker = await one.worker()
        worker.say(notice="a hub says\nqwend: all is well")
        worker.say(error="no\nqwend: all is well", code="x")
        await until(lambda: len(owner.heard) == 2)

    caplog.set_level(logging.INFO)
    run(tmp_path, test)
    assert "uid 4711 has 'https://h/m.gguf' pulled" in caplog.text
    assert "secret" not in caplog.text
    assert "\nqwend" not in caplog.text


def test_where_nobody_can_fetch_it_is_not_offered() -> None:
    async def refused(pulls: Pulls) -> Error:
        owner = Owner()
        pulls.take(owner, Pull(1, "m"))
        await until(lambda: isinstance(owner.heard[-1], Error))
        assert isinstance(owner.end, Error)
        return owner.end

    assert Pulls().capabilities == ()
    assert asyncio.run(refused(Pulls())).code == "unsupported"


def test_a_service_that_has_gone_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "pull.sock"))

    async def main() -> None:
        owner = Owner()
        pulls = Pulls(Fetcher(tmp_path / "pull.sock", tmp_path, {}))
        pulls.take(owner, Pull(1, "m"))
        await until(lambda: len(owner.heard) == 2)
        assert isinstance(owner.end, Error)
        assert owner.end.code == "fetch_failed"
        assert f"{tmp_path}/pull.sock" in owner.end.message

    asyncio.run(main())
