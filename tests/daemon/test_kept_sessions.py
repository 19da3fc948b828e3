"""Sessions with a whole daemon: over kills and restarts, between users, on a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.client import AsyncClient, ClientError, RequestFailed
from tests.daemon.as_user import NOBODY, User, as_root
from tests.support.daemon import RawClient, RunningDaemon, frame, running_daemon, wait_until

KILLS = int(os.environ.get("QWEND_TEST_DAEMON_KILLS", "3"))
"""Kills of a daemon; a night's run sets a thousand."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(script={}) as running:
        yield running


def start_again(daemon: RunningDaemon) -> None:
    """Another process in its place, with the same home."""
    daemon.process.wait()
    daemon.socket.unlink(missing_ok=True)
    with daemon._log.open("a") as log:
        daemon.process = subprocess.Popen(
            daemon.process.args, env=daemon.env, stdout=log, stderr=log, text=True
        )
    wait_until(daemon.is_up, f"the daemon listens again: {daemon.log}")


def said(daemon: RunningDaemon, name: str) -> list[str]:
    with daemon.client() as client:
        return [each.content for each in client.session(name).messages]


def test_the_client_has_all_that_can_be_asked(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        assert "sessions" in client.welcome.capabilities
        assert client.chat("one", session="first").wait().finish_reason == "stop"
        client.chat([{"role": "user", "content": "two"}], session="first").wait()
        client.prefill("thr", session="first", partial=True)
        facts = client.rename_session("first", "second")
        assert (facts.name, facts.turns, facts.messages) == ("second", 2, 4)
        assert facts in client.sessions()
        kept = client.session("second")
        assert kept.facts == facts
        assert [each.content for each in kept.messages] == ["one", "one", "two", "two"]
        assert client.delete_session("second") == facts
        for ask in (client.session, client.delete_session):
            with pytest.raises(RequestFailed) as caught:
                ask("second")
            assert caught.value.code == "unknown_session"


def test_the_asyncio_client_has_it_too(daemon: RunningDaemon) -> None:
    async def talk() -> None:
        async with AsyncClient(str(daemon.socket)) as client:
            for question in ("one", "two"):
                await (await client.chat(question, session="async")).wait()
            await client.prefill("thr", session="async", partial=True)
            await client.rename_session("async", "renamed")
            assert "renamed" in [each.name for each in await client.sessions()]
            kept = await client.session("renamed")
            assert [each.content for each in kept.messages] == ["one", "one", "two", "two"]
            await client.delete_session("renamed")
            with pytest.raises(RequestFailed, match="no session 'renamed'"):
                await client.session("renamed")

    asyncio.run(talk())


def test_a_turn_is_computed_from_what_is_cached_of_the_one_before(daemon: RunningDaemon) -> None:
    with daemon.client() as client:
        first = client.chat("one " * 50, session="cached").wait().usage
        second = client.chat("two", session="cached").wait().usage
        client.delete_session("cached")
    assert second.cached_tokens >= first.prompt_tokens


def test_a_question_has_an_id_like_any_request(daemon: RunningDaemon) -> None:
    with daemon.raw() as client:
        client.send_bytes(
            frame({"op": "sessions", "id": 1, "do": "list"})
            + frame({"op": "sessions", "id": 1, "do": "list"})
            + frame({"op": "chat", "id": 1, "messages": [{"role": "user", "content": "x"}]})
        )
        came = [client.read(), client.read(), client.read()]
        assert [each and each.get("code", each["op"]) for each in came] == [
            "duplicate_id",
            "duplicate_id",
            "sessions",
        ]
        assert client.ping() == []


def test_a_daemon_that_keeps_none_says_so() -> None:
    with (
        running_daemon(script={}, QWEND_SESSIONS_ENABLED="false") as daemon,
        daemon.client() as client,
    ):
        assert "sessions" not in client.welcome.capabilities
        with pytest.raises(RequestFailed, match="keeps no sessions") as caught:
            client.chat("x", session="a")
        assert caught.value.code == "unsupported"
        with pytest.raises(RequestFailed) as caught:
            client.sessions()
        assert caught.value.code == "unsupported"
        assert not (daemon.home / "state" / "sessions").exists()


def test_a_python_without_sqlite_is_enough_for_all_the_rest(tmp_path: Path) -> None:
    (tmp_path / "sqlite3.py").write_text(
        "raise ModuleNotFoundError(\"No module named '_sqlite3'\", name='_sqlite3')"
    )
    with running_daemon(script={}, PYTHONPATH=str(tmp_path)) as daemon, daemon.client() as client:
        assert "sessions" not in client.welcome.capabilities
        assert daemon.status()["degraded"] == [
            "no sessions are kept: this Python is without _sqlite3"
        ]
        assert client.chat("x").wait().finish_reason == "stop"


@pytest.mark.row("C4")
def test_a_commit_that_fails_is_told_by_its_code_and_leaves_no_half_turn() -> None:
    faults = {"ENOSPC": "no_space", "EDQUOT": "no_space", "EIO": "storage_error"}
    terms = [f"1*error({fault})" for fault in faults]
    fail = "->".join(["conversation.commit:2*off", *terms])  # the first makes the tables
    with running_daemon(script={}, QWEND_FAIL=fail) as daemon, daemon.client() as client:
        client.chat("one", session="a").wait()
        for code in faults.values():
            stream = client.chat("two", session="a")
            with pytest.raises(RequestFailed) as caught:
                stream.wait()
            assert caught.value.code == code
            assert stream.text == "two"
        client.chat("three", session="a").wait()
        assert said(daemon, "a") == ["one", "one", "three", "three"]


@as_root
@pytest.mark.row("G6")
def test_another_user_can_neither_list_nor_load_nor_delete_it(daemon: RunningDaemon) -> None:
    daemon.home.chmod(0o755)
    daemon.socket.parent.chmod(0o755)
    daemon.socket.chmod(0o666)
    with daemon.client() as client:
        client.chat("my secret", session="mine").wait()
    with User(NOBODY, NOBODY).connected(str(daemon.socket)) as connection:
        other = RawClient.__new__(RawClient)
        other.socket, other._read = connection, bytearray()
        other.socket.settimeout(30)
        other.send({"op": "hello", "protocol": "qwend/1"})
        other.read_until("welcome")
        other.send({"op": "sessions", "id": 1, "do": "list"})
        assert other.read_until("sessions", id=1)[-1]["sessions"] == []
        for client_id, act in enumerate(
            [
                {"do": "show", "name": "mine"},
                {"do": "rename", "name": "mine", "to": "yours"},
                {"do": "delete", "name": "mine"},
            ],
            2,
        ):
            other.send({"op": "sessions", "id": client_id, **act})
            assert other.read_until("error", id=client_id)[-1]["code"] == "unknown_session"
        # The same name is its own, and has nothing of the first in it.
        messages = [{"role": "user", "content": "hello"}]
        other.send({"op": "chat", "id": 9, "session": "mine", "messages": messages})
        accepted = other.read_until("accepted", id=9)[-1]
        other.read_until("done", id=9)
        assert accepted["prompt_tokens"] < len("my secret") * 2 + 60
        other.send({"op": "sessions", "id": 10, "do": "show", "name": "mine"})
        shown = other.read_until("sessions", id=10)[-1]["messages"]
        assert [each["content"] for each in shown] == ["hello", "hello"]
    assert said(daemon, "mine") == ["my secret", "my secret"]
    with daemon.client() as client:
        client.delete_session("mine")


@pytest.mark.row("C1")
def test_a_daemon_killed_at_any_moment_has_every_turn_that_was_done() -> None:
    """1. Three clients talk, each in a session of its own, as fast as they can.
    2. The daemon is killed with SIGKILL at a random moment, and another one started.
    3. Each session has every turn whose `done` came, and at most the one more that was under way.
    """
    dice = random.Random(5)
    done: dict[str, list[str]] = {}

    def talk(running: RunningDaemon, name: str) -> None:
        with suppress(ClientError), running.client(reconnect_s=0) as client:
            for number in range(1000):
                client.chat(f"{number} of {name}", session=name).wait()
                done[name].append(f"{number} of {name}")

    with running_daemon(script={"answer": "yes"}, QWEND_MODEL_CONTEXT="262144") as daemon:
        for number in range(KILLS):
            names = [f"{name}{number}" for name in "abc"]
            done |= {name: [] for name in names}
            talkers = [threading.Thread(target=talk, args=(daemon, name)) for name in names]
            for talker in talkers:
                talker.start()
            until = dice.randint(1, 40)
            wait_until(partial(there_are, until, [done[name] for name in names]), "turns")
            daemon.process.send_signal(signal.SIGKILL)
            for talker in talkers:
                talker.join()
            start_again(daemon)
            for name, questions in done.items():
                if questions:
                    kept = said(daemon, name)[::2]
                    assert kept[: len(questions)] == questions
                    assert len(kept) <= len(questions) + (name in names)
                    done[name] = kept
        assert daemon.status()["degraded"] == []


def there_are(count: int, lists: Sequence[Sequence[str]]) -> bool:
    return sum(map(len, lists)) >= count


@pytest.mark.row("C1")
def test_a_turn_whose_engine_dies_is_kept_as_a_whole_or_not_at_all() -> None:
    script = {"step_s": 0.01, "answer": "x" * 60}
    with running_daemon(script=script) as daemon, daemon.client() as client:
        client.chat("one", session="a").wait()
        stream = client.chat("two", session="a")
        next(iter(stream))
        psutil.Process(daemon.engine_pid()).kill()
        ended: str
        try:
            ended = stream.wait().finish_reason
        except RequestFailed as error:
            ended = error.code
        expected = ["one", "x" * 60]
        if ended == "stop":  # another engine has gone on with it
            expected += ["two", "x" * 60]
        else:
            assert ended == "engine_lost"
        assert said(daemon, "a") == expected
        wait_until(lambda: daemon.status()["state"] == "ready", "another engine")
        client.chat("three", session="a").wait()
        assert said(daemon, "a") == [*expected, "three", "x" * 60]


def test_damage_is_told_in_the_status_and_is_no_reason_not_to_start() -> None:
    with running_daemon(script={}) as daemon:
        with daemon.client() as client:
            client.chat("one", session="a").wait()
        daemon.stop()
        file = daemon.home / "state" / "sessions" / "sessions.db"
        file.write_bytes(b"what an editor made of it")
        start_again(daemon)
        wait_until(lambda: daemon.status()["degraded"], "the reason")
        (reason,) = daemon.status()["degraded"]
        assert "the sessions on the disk were damaged" in reason
        aside = Path(reason.rpartition(" ")[2])
        assert aside.read_bytes() == b"what an editor made of it"
        assert daemon.status()["state"] == "degraded"
        with daemon.client() as client:
            client.chat("two", session="a").wait()
        assert said(daemon, "a") == ["two", "two"]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    options = ["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@as_root
@pytest.mark.row("C4")
def test_a_full_disk_costs_the_turn_and_nothing_else(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"QWEND_MODEL_CONTEXT": "262144", "QWEND_CACHE_DISK_MB": "0"}
    with small_disk(tmp_path) as disk:
        settings["STATE_DIRECTORY"] = str(disk)
        script = {"answer": "yes"}
        with running_daemon(script=script, **settings) as daemon, daemon.client() as client:
            kept = 0
            refusal = None
            while refusal is None:
                try:
                    client.chat("x" * 40_000, session=f"s{kept}").wait()
                    kept += 1
                except RequestFailed as error:
                    refusal = error
            assert refusal.code == "no_space"
            assert "free some space" in str(refusal)
            assert kept > 3
            # A chat without a session needs no disk, and what was kept can be read.
            assert client.chat("hello").wait().finish_reason == "stop"
            assert [each.turns for each in client.sessions()] == [1] * kept
            assert client.session("s0").messages[1].content == "yes"
            assert daemon.status()["state"] == "ready"


@pytest.mark.llama
def test_a_real_model_goes_on_after_a_restart_without_reading_it_all_again() -> None:
    # Chosen by measuring, it may be another one after the restart, and so the cells' layout.
    settings: dict[str, Any] = {"QWEND_ENGINE_FLASH_ATTENTION": "off"}
    settings |= {"QWEND_ENGINE_BACKEND": "llama", "QWEND_MODEL_CONTEXT": "2048"}
    with running_daemon(**settings) as daemon:
        whole: list[dict[str, str]] = []
        for turn, question in enumerate(("What is qwend?", "How do I stop it?", "Thanks.")):
            if turn == 2:
                daemon.stop()
                start_again(daemon)
            with daemon.client() as client:
                stream = client.chat(question, session="guide", temperature=0)
                usage = stream.wait().usage
                whole.append({"role": "user", "content": question})
                carried = client.chat(whole, temperature=0)
                carried.wait()
                assert stream.text == carried.text
                whole.append({"role": "assistant", "content": stream.text})
            if turn == 2:
                assert usage.cached_tokens > usage.prompt_tokens // 2
        assert said(daemon, "guide") == [each["content"] for each in whole]
