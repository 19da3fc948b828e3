"""The process that pulls one model: what it takes, what it says, and when it stops."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwend.models.blob_store import BlobStore
from tests.models.pull.stub_hub import REPOSITORY, Request, StubHub, digest, model_bytes, stub_hub
from tests.support.daemon import DEADLINE_S, daemon_env, wait_until

DATA = model_bytes()
COMMAND = (sys.executable, "-m", "qwend.daemon.main", "pull-worker")
WHAT = f"hf:{REPOSITORY}/model.gguf"


@dataclass
class Worker:
    """connection: what the daemon would hold of it."""

    process: subprocess.Popen[str]
    connection: socket.socket

    def ask(self, **order: Any) -> None:
        self.connection.sendall(json.dumps(order).encode() + b"\n")

    def said(self) -> list[dict[str, Any]]:
        """All that it says until it has ended."""
        with self.connection.makefile("rb") as lines:
            return [json.loads(line) for line in lines]

    def ended(self) -> tuple[int, str]:
        """Exit status and standard error."""
        _, stderr = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, stderr


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "models")


@contextmanager
def worker(hub: StubHub, store: BlobStore) -> Iterator[Worker]:
    with started(store, {**hub.environ, "HF_TOKEN": "", "no_proxy": "*"}) as one:
        yield one


@contextmanager
def started(store: BlobStore, environ: Mapping[str, str]) -> Iterator[Worker]:
    ours, theirs = socket.socketpair()
    ours.settimeout(DEADLINE_S)
    home = store.models_dir.parent
    with ours:
        with theirs:
            process = subprocess.Popen(
                [*COMMAND, "--models", str(store.models_dir)],
                stdin=theirs.fileno(),
                stderr=subprocess.PIPE,
                env={**daemon_env(home), **environ},
                text=True,
            )
        try:
            yield Worker(process, ours)
        finally:
            process.kill()
            process.communicate()


def test_it_pulls_what_it_is_asked_and_says_how_far_it_is(hub: StubHub, store: BlobStore) -> None:
    with worker(hub, store) as one:
        one.ask(model=WHAT, name="mine", sha256="", source="hub")
        said = one.said()
        assert one.ended() == (0, "")
    assert said[-1] == {"done": "mine", "fetched_bytes": len(DATA)}
    stages = {line["progress"][0] for line in said if "progress" in line}
    assert stages == {"asking", "fetching", "checking"}
    assert ["fetching", len(DATA), len(DATA)] in [line.get("progress") for line in said]
    assert store.names() == ["mine"]


def test_it_has_what_is_there_without_asking_anybody(hub: StubHub, store: BlobStore) -> None:
    with worker(hub, store) as one:
        one.ask(model=WHAT, offline=True)
        (said,) = one.said()
        assert said["code"] == "offline"
    assert hub.asked == []
    with worker(hub, store) as one:
        one.ask(model=WHAT)
        one.said()
    asked = len(hub.asked)
    with worker(hub, store) as one:
        one.ask(model=WHAT, offline=True)
        assert one.said() == [{"done": "model", "fetched_bytes": 0}]
    assert len(hub.asked) == asked


def test_an_error_has_its_code_and_is_no_failure_of_the_process(
    hub: StubHub, store: BlobStore
) -> None:
    for order, code in (
        ({"model": "hf:owner/repo/none.gguf", "source": "hub"}, "not_found"),
        ({"model": "qwen-9000"}, "not_found"),
        ({"model": "/etc/passwd.gguf"}, "config"),
        ({"model": WHAT, "name": "../x"}, "config"),
        ({"model": 1}, "config"),
        ({"modell": WHAT}, "config"),
    ):
        with worker(hub, store) as one:
            one.ask(**order)
            said = one.said()
            assert one.ended() == (0, "")
        assert said[-1]["code"] == code, said


@pytest.mark.parametrize("where", ["asking", "fetching"])
def test_when_nobody_waits_it_stops_at_once_and_keeps_what_came(
    hub: StubHub, store: BlobStore, where: str
) -> None:
    silent, over = threading.Event(), threading.Event()

    def held(request: Request) -> None:
        if where == "fetching":
            request.reply(200, DATA, upto=200_000)
            request.handler.wfile.flush()
        silent.set()
        over.wait(DEADLINE_S)

    hub.on_file = held
    if where == "asking":
        hub.on_head = held
    with worker(hub, store) as one:
        one.ask(model=WHAT, source="hub")
        assert silent.wait(DEADLINE_S)
        part = store.parts / f"{digest(DATA)}.part"
        if where == "fetching":
            wait_until(lambda: part.stat().st_size == 200_000, "all of it is written")
        one.connection.close()
        assert one.ended() == (0, "")
    over.set()
    assert store.names() == []
    if where == "fetching":
        hub.on_file = lambda request: request.serve()
        with worker(hub, store) as one:
            one.ask(model=WHAT, source="hub")
            assert one.said()[-1] == {"done": "model", "fetched_bytes": len(DATA) - 200_000}
        assert hub.ranges()[-1] == "bytes=200000-"


def test_who_has_heard_the_end_may_close_at_once(hub: StubHub, store: BlobStore) -> None:
    with worker(hub, store) as one:
        one.ask(model=WHAT, source="hub")
        with one.connection.makefile("rb") as lines:
            while b'"done"' not in lines.readline():
                pass
        one.connection.close()
        assert one.ended() == (0, "")
    assert store.names() == ["model"]


def test_one_that_is_asked_nothing_ends(hub: StubHub, store: BlobStore) -> None:
    with worker(hub, store) as one:
        one.connection.sendall(b'{"model": "half')
        one.connection.close()
        assert one.ended() == (0, "")
    assert not store.models_dir.exists()


def test_who_starts_it_by_hand_is_told_what_it_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--models", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "standard input is no socket" in done.stderr
