"""Kills, full disks, two at once: what has a name is whole and right, what came is not lost.

QWEND_TEST_PULL_MB and QWEND_TEST_PULL_KILLS make the kills more, and the file larger.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from qwend.errors import FetchError
from qwend.models.blob_store import BlobStore
from qwend.models.pull.part import SEAL_BYTES as REAL_SEAL_BYTES
from qwend.models.pull.progress import Progress
from qwend.models.store import resolve_model
from tests.models.pull.puller import SEAL_BYTES, Puller
from tests.models.pull.stub_hub import REPOSITORY, Request, StubHub, digest, model_bytes, stub_hub
from tests.support.daemon import daemon_env

DATA = model_bytes()
PULL_MB = int(os.environ.get("QWEND_TEST_PULL_MB", "24"))
KILLS = int(os.environ.get("QWEND_TEST_PULL_KILLS", "3"))
# The whole file takes about as long as all kills, so that each meets it somewhere else.
BLOCK_BYTES = 1 << 18
PULL_S = 0.8 * KILLS
# What is read at once and was not written when the kill came.
IN_FLIGHT_BYTES = 1 << 18


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@pytest.fixture
def puller(hub: StubHub, tmp_path: Path) -> Puller:
    return Puller(hub, tmp_path / "models")


@pytest.mark.row("I3")
@pytest.mark.timeout(600)
def test_kill_9_at_random_moments_of_a_pull(tmp_path: Path) -> None:
    """1. Start a pull over a slow line, kill it at a random moment; again and again.
    2. After each kill the name is absent, or the file is right.
    3. The next one asks for no more again than what one seal covers.
    4. The last is left alone, and ends well.
    """
    data = model_bytes(PULL_MB << 20)
    env = daemon_env(tmp_path)
    store = BlobStore(Path(env["STATE_DIRECTORY"]) / "models")
    random, lost = Random(time.time_ns()), []
    with stub_hub(model=data) as hub:
        hub.on_file = slow_line
        env |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": "", "no_proxy": "*"}
        for _ in range(KILLS):
            asked, there = len(hub.ranges()), part_bytes(store, data)
            started = subprocess.Popen(pull_command(), env=env, stderr=subprocess.PIPE)
            with started:
                if random.random() < 0.8:  # else perhaps before it has asked for anything
                    while started.poll() is None and len(hub.ranges()) == asked:
                        time.sleep(0.005)
                with suppress(subprocess.TimeoutExpired):
                    started.wait(random.uniform(0, 2 * PULL_S / KILLS))
                started.kill()
            assert store.names() in ([], ["model"])
            if store.names():
                assert resolve_model("model", store.models_dir).path.read_bytes() == data
                break
            if len(hub.ranges()) > asked and there:
                lost.append(there - first_byte(hub.ranges()[asked]))
        hub.on_file = lambda request: request.serve()
        ended = subprocess.run(pull_command(), env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert resolve_model("model", store.models_dir).path.read_bytes() == data
    assert list(store.parts.iterdir()) == []
    print(f"bytes asked for again after each kill: {lost}")
    assert all(0 <= each <= REAL_SEAL_BYTES + IN_FLIGHT_BYTES for each in lost)


def pull_command() -> list[str]:
    what = f"hf:{REPOSITORY}/model.gguf"
    return [sys.executable, "-m", "qwend.cli.main", "pull", "--quiet", what]


def slow_line(request: Request) -> None:
    """The file in PULL_S seconds, were nobody to kill it."""
    rest = memoryview(request.data)[request.start :]
    total = len(request.data)
    headers = {"Content-Length": str(len(rest))}
    if request.start:
        headers["Content-Range"] = f"bytes {request.start}-{total - 1}/{total}"
    request.reply(206 if request.start else 200, b"", headers=headers)
    for at in range(0, len(rest), BLOCK_BYTES):
        request.handler.wfile.write(rest[at : at + BLOCK_BYTES])
        time.sleep(PULL_S * BLOCK_BYTES / total)  # the line's speed, not a wait for something


def part_bytes(store: BlobStore, data: bytes) -> int:
    path = store.parts / f"{digest(data)}.part"
    return path.stat().st_size if path.exists() else 0


def first_byte(spread: str) -> int:
    return int(spread.removeprefix("bytes=").rstrip("-")) if spread else 0


@pytest.mark.row("I3")
def test_two_pulls_of_one_model_are_one(hub: StubHub, tmp_path: Path) -> None:
    second_waits = threading.Event()

    def held(request: Request) -> None:
        request.reply(200, DATA, upto=100_000)
        assert second_waits.wait(30)
        request.handler.wfile.write(DATA[100_000:])

    def on_progress(progress: Progress) -> None:
        if progress.stage == "waiting" and progress.done_bytes >= 65_536:
            second_waits.set()

    hub.on_file = held
    first = Puller(hub, tmp_path / "models")
    second = Puller(hub, tmp_path / "models", on_progress=on_progress)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.pull)
        while not hub.ranges():
            time.sleep(0.005)
        other = pool.submit(second.pull)

    assert {one.result().fetched_bytes, other.result().fetched_bytes} == {0, len(DATA)}
    assert len(hub.ranges()) == 1
    assert any("another pull" in notice for notice in second.notices)
    assert first.published() == [DATA]
    assert first.left_over() == []


@pytest.mark.row("I3")
def test_the_second_goes_on_where_the_first_was_stopped(hub: StubHub, tmp_path: Path) -> None:
    stopped = threading.Event()

    def held(request: Request) -> None:
        if request.start:
            request.serve()
            return
        request.reply(200, DATA, upto=150_000)
        assert stopped.wait(30)

    def on_progress(progress: Progress) -> None:
        if progress.stage == "waiting":
            stopped.set()

    hub.on_file = held
    first = Puller(hub, tmp_path / "models", cancelled=stopped.is_set)
    second = Puller(hub, tmp_path / "models", on_progress=on_progress)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.pull)
        while not hub.ranges():
            time.sleep(0.005)
        pool.submit(second.pull).result()
        with pytest.raises(FetchError):
            one.result()

    assert second.published() == [DATA]
    assert first_byte(hub.ranges()[-1]) > 0


@pytest.mark.row("I3")
@pytest.mark.parametrize("room", range(0, len(DATA), 40_000))
def test_a_disk_that_fills_up_leaves_a_part_to_go_on_with(
    puller: Puller, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    real_write = os.write
    left = [room]

    def write(fd: int, data: Any) -> int:
        if len(data) > 1000:  # of the file, not of its journal
            if left[0] <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = memoryview(data)[: left[0]]
            left[0] -= len(data)
        return real_write(fd, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(FetchError, match="is full; free some space") as caught:
        puller.pull()
    assert caught.value.code == "no_space"
    assert puller.published() == []

    monkeypatch.undo()
    pulled = puller.pull()

    assert puller.published() == [DATA]
    # What came in small pieces was not held up, so there may be a little more than the room.
    assert pulled.fetched_bytes <= len(DATA) - room


def test_too_little_room_is_said_before_anything_is_fetched(
    hub: StubHub, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def small(path: Any) -> Any:
        found = list(real(path))
        found[4] = 1  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", small)
    with pytest.raises(FetchError, match="this takes 64 MiB") as caught:
        puller.pull()

    assert caught.value.code == "no_space"
    assert hub.ranges() == []


@pytest.mark.row("I3")
def test_a_kill_between_blob_and_name_costs_no_byte(hub: StubHub, puller: Puller) -> None:
    puller.pull()
    manifests = puller.models_dir / "store" / "manifests"
    (manifests / "model.json").unlink()

    assert puller.pull().fetched_bytes == 0
    assert puller.published() == [DATA]
    assert puller.left_over() == []
    assert len(hub.ranges()) == 1


def test_an_undisturbed_pull_reads_nothing_again(puller: Puller) -> None:
    puller.pull()

    assert {progress.stage for progress in puller.told} == {"asking", "fetching", "checking"}


def test_progress_ends_at_the_size_of_the_file(puller: Puller) -> None:
    puller.pull()

    fetched = [told for told in puller.told if told.stage == "fetching"]
    assert fetched[-1].done_bytes == fetched[-1].total_bytes == len(DATA)
    assert [told.done_bytes for told in fetched] == sorted(told.done_bytes for told in fetched)


def test_a_cancelled_pull_keeps_what_came(hub: StubHub, puller: Puller) -> None:
    puller.cancelled = lambda: any(told.done_bytes > SEAL_BYTES for told in puller.told)
    with pytest.raises(FetchError) as caught:
        puller.pull()
    assert caught.value.code == "cancelled"
    puller.cancelled = lambda: False

    puller.pull()

    assert puller.published() == [DATA]
    assert first_byte(hub.ranges()[-1]) > SEAL_BYTES
