"""An administrator has a model pulled by a whole daemon, from a hub on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from qwend.models.blob_store import BlobStore
from tests.daemon.as_user import NOBODY, as_root, as_user
from tests.daemon.fake_systemd import fake_systemd
from tests.models.pull.stub_hub import REPOSITORY, Request, StubHub, digest, model_bytes, stub_hub
from tests.support.daemon import DEADLINE_S, RawClient, RunningDaemon, running_daemon, wait_until

DATA = model_bytes()
PULL = {"op": "pull", "id": 1, "model": f"hf:{REPOSITORY}/model.gguf", "from": "hub"}
ADMIN_GROUP = 4711
HELLO = {"op": "hello", "protocol": "qwend/1"}


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@contextmanager
def pulling_daemon(hub: StubHub, **settings: str) -> Iterator[RunningDaemon]:
    web = {**hub.environ, "HF_TOKEN": "", "no_proxy": "*"}
    with running_daemon(script={"answer": "x"}, **web, **settings) as daemon:
        yield daemon


def store_of(daemon: RunningDaemon) -> BlobStore:
    return BlobStore(daemon.home / "state" / "models")


@contextmanager
def talking(daemon: RunningDaemon, uid: int, *groups: int) -> Iterator[RawClient]:
    """A connection of this user that has said nothing."""
    with (
        as_user(uid, groups=groups).connected(str(daemon.socket)) as connection,
        RawClient(connection, hello=False) as client,
    ):
        yield client


def greeted(client: RawClient) -> list[str]:
    """The capabilities that it is told of."""
    client.send(HELLO)
    told: list[str] = client.read_until("welcome")[-1]["capabilities"]
    return told


def children(pid: int) -> list[psutil.Process]:
    """Of the daemon, those that pull."""
    found = []
    for one in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie is none of them either
            if "pull-worker" in one.cmdline():
                found.append(one)
    return found


@contextmanager
def half_of_it(hub: StubHub) -> Iterator[None]:
    """The hub gives 200,000 bytes, and then nothing more."""
    over = threading.Event()

    def held(request: Request) -> None:
        request.reply(200, DATA, upto=200_000)
        request.handler.wfile.flush()
        over.wait(DEADLINE_S)

    hub.on_file = held
    try:
        yield
    finally:
        over.set()
        hub.on_file = lambda request: request.serve()


def wait_for_half(store: BlobStore) -> None:
    part = store.parts / f"{digest(DATA)}.part"
    wait_until(lambda: part.exists() and part.stat().st_size == 200_000, "half of it came")


def test_what_an_administrator_pulls_is_in_the_daemons_store(hub: StubHub) -> None:
    with pulling_daemon(hub) as daemon, daemon.raw(hello=False) as client:
        assert "pull" in greeted(client)
        client.send({**PULL, "name": "mine"})
        *before, done = client.read_until("done")
        assert (done["finish_reason"], done["model"]) == ("pulled", "mine")
        told = [(one["stage"], one["done"], one["total"]) for one in before]
        assert {stage for stage, _, _ in told} == {"pulling", "checking"}
        size = len(DATA) >> 10
        assert ("pulling", size, size) in told
        store = store_of(daemon)
        assert store.names() == ["mine"]
        assert store.blob_path(digest(DATA)).read_bytes() == DATA
        wait_until(lambda: not children(daemon.process.pid), "nobody pulls any more")
        asked = len(hub.asked)
        client.send({**PULL, "name": "mine", "offline": True})
        assert client.read_until("done")[-1]["model"] == "mine"
        assert len(hub.asked) == asked


@as_root
@pytest.mark.row("G1")
def test_members_of_the_admin_group_may_pull_and_others_may_not(hub: StubHub) -> None:
    settings = {"QWEND_SOCKET_MODE": "0666", "QWEND_SOCKET_ADMIN_GROUP": str(ADMIN_GROUP)}
    with pulling_daemon(hub, **settings) as daemon:
        daemon.admit_everybody()
        with talking(daemon, NOBODY) as other:
            assert "pull" not in greeted(other)
            other.send(PULL)
            error = other.read_until("error")[-1]
            assert (error["id"], error["code"]) == (1, "forbidden")
            assert "admin_group" in error["message"]
        assert hub.asked == []
        with talking(daemon, 4712, ADMIN_GROUP) as member:
            assert "pull" in greeted(member)
            member.send(PULL)
            assert member.read_until("done")[-1]["model"] == "model"
        assert "uid 4712 has 'hf:owner/repo/model.gguf' pulled" in daemon.log


def test_what_cannot_be_pulled_ends_in_an_error_that_says_why(hub: StubHub) -> None:
    with pulling_daemon(hub) as daemon, daemon.raw() as client:
        for wrong, code, said in (
            ({"model": "/etc/passwd"}, "invalid_value", "models import"),
            ({"name": "../x"}, "invalid_value", "cannot be the name"),
            ({"sha256": "ab"}, "invalid_value", "64 hexadecimal"),
            ({"model": "hf:owner/repo/none.gguf"}, "fetch_failed", "none.gguf"),
            ({"model": "qwen-9000"}, "fetch_failed", "qwen-9000"),
            ({"offline": True}, "fetch_failed", "nobody may be asked"),
        ):
            client.send({**PULL, **wrong})
            error = client.read_until("error")[-1]
            assert (error["id"], error["code"]) == (1, code)
            assert said in error["message"]
        assert store_of(daemon).names() == []


def test_who_goes_away_stops_it_and_the_next_one_goes_on(hub: StubHub) -> None:
    """1. Two pull the same: one process. One cancels, and it goes on; the other is cut off.
    2. The process ends, and what came is there; the next pull asks for the rest alone.
    """
    with pulling_daemon(hub) as daemon:
        store, pid = store_of(daemon), daemon.process.pid
        with half_of_it(hub), daemon.raw() as first:
            with daemon.raw() as second:
                for client in (first, second):
                    client.send(PULL)
                wait_for_half(store)
                assert len(children(pid)) == 1
                first.send({"op": "cancel", "id": 1})
                assert first.read_until("done")[-1]["finish_reason"] == "cancelled"
                second.ping()
                assert len(children(pid)) == 1
            wait_until(lambda: not children(pid), "nobody pulls any more")
            assert store.names() == []
        with daemon.raw() as client:
            client.send(PULL)
            assert client.read_until("done")[-1]["model"] == "model"
        assert hub.ranges()[-1] == "bytes=200000-"


def test_a_pull_has_its_id_for_itself(hub: StubHub) -> None:
    with pulling_daemon(hub) as daemon, half_of_it(hub), daemon.raw() as client:
        client.send(PULL)
        for other in (
            {"op": "complete", "prompt": "x"},
            {"op": "tokenize", "text": "x"},
            {"op": "sessions", "do": "list"},
            {"op": "drain"},
            PULL,
        ):
            client.send({**other, "id": 1})
            error = client.read_until("error")[-1]
            assert (error["id"], error["code"]) == (1, "duplicate_id"), other
        client.send({"op": "cancel", "id": 1})
        assert client.read_until("done")[-1]["finish_reason"] == "cancelled"
        client.send({"op": "complete", "id": 1, "prompt": "x", "max_tokens": 1})
        assert client.read_until("done")[-1]["finish_reason"] == "length"


def test_a_stop_ends_the_pull_and_leaves_no_process(hub: StubHub) -> None:
    with pulling_daemon(hub) as daemon, half_of_it(hub), daemon.raw() as client:
        client.send(PULL)
        wait_for_half(store_of(daemon))
        (worker,) = children(daemon.process.pid)
        assert daemon.stop() == 0
        assert client.read_until("error")[-1]["code"] == "shutting_down"
        assert not worker.is_running()


def test_a_daemon_that_is_killed_leaves_no_process(hub: StubHub) -> None:
    with pulling_daemon(hub) as daemon, half_of_it(hub), daemon.raw() as client:
        client.send(PULL)
        store = store_of(daemon)
        wait_for_half(store)
        (worker,) = children(daemon.process.pid)
        daemon.process.kill()
        worker.wait(DEADLINE_S)
        assert (store.parts / f"{digest(DATA)}.part").stat().st_size == 200_000


def test_after_a_restart_of_the_daemon_its_client_hears_that_the_pull_is_over(
    hub: StubHub,
) -> None:
    """Over the same connection, which systemd has kept."""
    web = {**hub.environ, "HF_TOKEN": "", "no_proxy": "*"}
    with fake_systemd() as systemd, half_of_it(hub):
        systemd.start_and_wait(None, **web)
        with systemd.greeted() as client:
            client.send(PULL)
            client.read_until("progress")
            client.ping()
            systemd.kill()
            systemd.start_and_wait(None, **web)
            assert client.read_until("error", id=1)[-1]["code"] == "engine_lost"
