"""Another model answers, and nobody's stream breaks (`load`, `unload`, sleep).

Against a real daemon with the guide; the other model is the guide in another file, under another
name, so that every greedy answer can be compared.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.models.store import guide_path
from tests.daemon.fake_systemd import fake_systemd
from tests.support.daemon import DEADLINE_S, RawClient, RunningDaemon, running_daemon, wait_until

QUESTION = "How do I install a real model?"
# What a GPU has left nobody knows, so that models are loaded in turn, as where memory is short.
IN_TURN = {"QWEND_MODEL_GPU_LAYERS": "1"}
LLAMA = {"QWEND_ENGINE_BACKEND": "llama", "QWEND_MODEL_CONTEXT": "2048"}


@contextmanager
def guided(**settings: str) -> Iterator[RunningDaemon]:
    with running_daemon(script=None, **LLAMA, **settings) as daemon:
        copied(daemon, "other")
        yield daemon


def copied(daemon: RunningDaemon, name: str) -> Path:
    """The guide under another name, where the daemon looks for models."""
    directory = daemon.home / "state" / "models"
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}.gguf"
    shutil.copyfile(guide_path(), path)
    return path


def question(client_id: int, tokens: int = 60, **more: Any) -> dict[str, Any]:
    """One whose answer is exactly so long, and begins the same every time: behind the end that the
    model itself would make it has no clear choice, and rounding decides."""
    messages = [{"role": "user", "content": f"{client_id}: {QUESTION}"}]
    fixed = {"temperature": 0.0, "ignore_eos": True, "max_tokens": tokens}
    return {"op": "chat", "id": client_id, "messages": messages, **fixed, **more}


def answer_of(messages: list[dict[str, Any]], client_id: int) -> str:
    """The text of one request, whose tokens came in order and without a gap."""
    text, due = "", 0
    for message in messages:
        if message.get("id") == client_id and message["op"] == "token":
            assert message["index"] == due
            due += len(message["ids"])
            text += message["text"]
    return text


def knowing(daemon: RunningDaemon) -> RawClient:
    """A client that is told how a load gets on."""
    client = daemon.raw(hello=False)
    client.send({"op": "hello", "protocol": "qwend/1", "capabilities": ["loading"]})
    client.read_until("welcome")
    return client


def loaded(daemon: RunningDaemon, model: str) -> list[dict[str, Any]]:
    with daemon.raw() as administrator:
        administrator.send({"op": "load", "id": 1, "model": model})
        return administrator.read_until("done", id=1)


def switching(daemon: RunningDaemon) -> RawClient:
    """An administrator whose order to load the other model, as number 1, is under way."""
    administrator = daemon.raw()
    administrator.send({"op": "load", "id": 1, "model": "other"})
    wait_until(lambda: daemon.status()["switching"], "the switch has begun")
    return administrator


def engines(daemon: RunningDaemon) -> int:
    return len(psutil.Process(daemon.process.pid).children())


def test_four_streams_go_on_while_another_model_takes_over() -> None:
    with guided() as daemon:
        with daemon.raw() as client:
            for one in range(4):
                client.send(question(one))
            alone = [message for _ in range(4) for message in client.read_until("done")]
        undisturbed = [answer_of(alone, one) for one in range(4)]
        with daemon.raw() as client:
            for one in range(4):
                client.send(question(one, tokens=400))
            before = client.read_until("token", id=3)
            loaded(daemon, "other")
            assert daemon.status()["model"]["name"] == "other"
            streams = before + [message for _ in range(4) for message in client.read_until("done")]
        for one in range(4):
            (done,) = [m for m in streams if m["op"] == "done" and m["id"] == one]
            assert done["usage"]["completion_tokens"] == 400
            assert answer_of(streams, one).startswith(undisturbed[one])
        wait_until(lambda: engines(daemon) == 1, "the first engine has ended")
        assert [one["role"] for one in daemon.status()["models"]] == ["resident"]


def test_what_is_asked_after_the_switch_goes_to_the_new_engine() -> None:
    with guided() as daemon:
        first = daemon.engine_pid()
        with daemon.raw() as client:
            client.send(question(1, tokens=1900))
            client.read_until("token", id=1)
            loaded(daemon, "other")
            second = daemon.engine_pid()
            assert second != first
            client.send(question(2, tokens=5))
            assert [m["op"] for m in client.read_until("done", id=2)][-1] == "done"
            assert psutil.pid_exists(first)  # the long answer is not over
            client.send({"op": "cancel", "id": 1})
            client.read_until("done", id=1)
        wait_until(lambda: not psutil.pid_exists(first), "the first engine has ended")


def test_the_engine_that_leaves_dies_and_its_stream_goes_on_all_the_same() -> None:
    with guided() as daemon:
        first = daemon.engine_pid()
        with daemon.raw() as client:
            client.send(question(1, tokens=600))
            begun = client.read_until("token", id=1)
            loaded(daemon, "other")
            psutil.Process(first).kill()
            answer = begun + client.read_until("done", id=1)
            client.send(question(1))
            undisturbed = answer_of(client.read_until("done", id=1), 1)
        assert answer[-1]["usage"]["completion_tokens"] == 600
        assert answer_of(answer, 1).startswith(undisturbed)
        wait_until(lambda: engines(daemon) == 1, "only the new engine is left")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("/nowhere/model.gguf", "does not exist"),
        ("othr", "Did you mean 'other'"),
        ("models/other.gguf", "from the root on"),
    ],
)
def test_a_model_that_is_not_there_changes_nothing(model: str, says: str) -> None:
    with guided() as daemon, daemon.raw() as administrator:
        administrator.send({"op": "load", "id": 1, "model": model})
        (error,) = administrator.read_until("error", id=1)
        assert error["code"] == "model_error"
        assert says in error["message"]
        assert daemon.status()["model"]["name"] == "guide"
        administrator.send(question(2, tokens=5))
        administrator.read_until("done", id=2)


def test_a_damaged_model_changes_nothing() -> None:
    with guided() as daemon:
        path = copied(daemon, "damaged")
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        pid = daemon.engine_pid()
        with daemon.raw() as administrator:
            administrator.send({"op": "load", "id": 1, "model": "damaged"})
            error = administrator.read_until("error", id=1)[-1]
        assert error["code"] == "model_error"
        assert daemon.engine_pid() == pid
        assert daemon.status()["switching"] is None


def test_a_second_order_is_told_to_wait() -> None:
    with guided() as daemon, daemon.raw() as one, daemon.raw() as two:
        one.send(question(9, tokens=1900))
        one.read_until("token", id=9)
        one.send({"op": "unload", "id": 1})  # waits for the answer
        one.ping()
        two.send({"op": "load", "id": 2, "model": "other"})
        error = two.read_until("error", id=2)[-1]
        assert (error["code"], error["retry_after_s"] > 0) == ("busy", True)
        one.send({"op": "cancel", "id": 1})
        assert one.read_until("done", id=1)[-1]["finish_reason"] == "cancelled"
        assert loaded(daemon, "other")[-1]["model"] == "other"


def test_an_order_that_is_cancelled_before_it_began_ends_too() -> None:
    with guided() as daemon, daemon.raw() as administrator:
        administrator.send({"op": "load", "id": 1, "model": "other"})
        administrator.send({"op": "cancel", "id": 1})
        assert administrator.read_until("done", id=1)[-1]["finish_reason"] == "cancelled"
        assert daemon.status()["model"]["name"] == "guide"
        wait_until(lambda: engines(daemon) == 1, "nothing of it is left")


def test_what_is_unloaded_is_loaded_again_by_the_next_request() -> None:
    with guided() as daemon, daemon.raw() as client:
        client.send(question(1))
        before = answer_of(client.read_until("done", id=1), 1)
        client.send({"op": "unload", "id": 2})
        client.read_until("done", id=2)
        status = daemon.status()
        assert (status["state"], status["engine"]["state"]) == ("ready", "unloaded")
        assert engines(daemon) == 0
        client.send(question(3, tokens=60) | {"messages": question(1)["messages"]})
        assert answer_of(client.read_until("done", id=3), 3) == before
        assert daemon.status()["engine"]["state"] == "ready"


def test_a_model_that_nobody_asks_for_is_let_go_of() -> None:
    with guided(QWEND_MODEL_UNLOAD_AFTER_S="0.5") as daemon:
        wait_until(lambda: engines(daemon) == 0, "the engine has ended")
        with daemon.raw() as client:
            client.send(question(1, tokens=5))
            client.read_until("done", id=1)
        wait_until(lambda: engines(daemon) == 0, "it is let go of again")


def test_a_model_that_cannot_be_woken_is_said_to_be_and_tried_again() -> None:
    with guided() as daemon, daemon.raw() as client:
        path = copied(daemon, "stick")
        loaded(daemon, str(path))
        client.send({"op": "unload", "id": 1})
        client.read_until("done", id=1)
        path.rename(path.with_suffix(".away"))
        client.send(question(2, tokens=5))
        error = client.read_until("error", id=2)[-1]
        assert error["code"] == "model_error"
        path.with_suffix(".away").rename(path)
        client.send(question(3, tokens=5))
        client.read_until("done", id=3)


def test_progress_of_a_load_comes_to_clients_that_know_it() -> None:
    with guided() as daemon, knowing(daemon) as administrator:
        administrator.send({"op": "load", "id": 1, "model": "other"})
        told = administrator.read_until("done", id=1)
        percents = [message["done"] for message in told if message["op"] == "progress"]
        assert percents
        assert percents == sorted(percents)
        assert told[-1]["finish_reason"] == "loaded"
    with guided() as daemon:
        assert [message["op"] for message in loaded(daemon, "other")] == ["done"]


def test_a_connection_that_goes_takes_its_order_along() -> None:
    with guided() as daemon:
        with daemon.raw() as busy, daemon.raw() as administrator:
            busy.send(question(1, tokens=1900))
            busy.read_until("token", id=1)
            administrator.send({"op": "unload", "id": 1})
            administrator.ping()
            administrator.close()
            # Only an order that is given up leaves room for the next.
            wait_until(lambda: not daemon_is_changing(daemon), "the order is given up")
            busy.send({"op": "cancel", "id": 1})
            busy.read_until("done", id=1)
        assert daemon.status()["engine"]["state"] == "ready"


def daemon_is_changing(daemon: RunningDaemon) -> bool:
    with daemon.raw() as asks:
        asks.send({"op": "load", "id": 1, "model": "/nowhere.gguf"})
        return bool(asks.read_until("error", id=1)[-1]["code"] == "busy")


def test_where_there_is_room_for_one_the_open_answers_end_first() -> None:
    with guided(**IN_TURN) as daemon:
        first = daemon.engine_pid()
        with daemon.raw() as client, knowing(daemon) as waiting:
            client.send(question(1, tokens=1200))
            begun = client.read_until("token", id=1)
            administrator = switching(daemon)
            waiting.send(question(2, tokens=5))
            told = waiting.read_until("done", id=2)
            assert daemon.engine_pid() != first
            answer = begun + client.read_until("done", id=1)
            administrator.read_until("done", id=1)
            administrator.close()
            stages = [message["stage"] for message in told if message["op"] == "progress"]
            assert {"waiting", "loading"} <= set(stages)
            assert "waiting" not in stages[stages.index("loading") :]
            assert len([m for m in answer if m["op"] == "token"]) > 1
            assert answer[-1]["usage"]["completion_tokens"] == 1200
            client.send(question(1))
            assert answer_of(answer, 1).startswith(answer_of(client.read_until("done", id=1), 1))
        assert engines(daemon) == 1


def test_who_waits_for_a_model_that_is_not_wanted_any_more_is_answered_by_the_old_one() -> None:
    with guided(**IN_TURN) as daemon:
        first = daemon.engine_pid()
        with daemon.raw() as client, daemon.raw() as waiting:
            client.send(question(1, tokens=1900))
            client.read_until("token", id=1)
            administrator = switching(daemon)
            waiting.send(question(2, tokens=5))
            assert [message for message in waiting.ping() if message["op"] == "token"] == []
            administrator.send({"op": "cancel", "id": 1})
            assert administrator.read_until("done", id=1)[-1]["finish_reason"] == "cancelled"
            administrator.close()
            waiting.read_until("done", id=2)
            client.send({"op": "cancel", "id": 1})
            client.read_until("done", id=1)
        assert daemon.engine_pid() == first


def test_the_model_before_comes_back_where_the_new_one_could_not_be_started() -> None:
    fails = "engine.start:1*off->1*error(EACCES)"  # of the new one alone
    with guided(QWEND_FAIL=fails, **IN_TURN) as daemon, daemon.raw() as client:
        client.send({"op": "load", "id": 1, "model": "other"})
        assert client.read_until("error", id=1)[-1]["code"] == "model_error"
        client.send(question(2, tokens=5))
        client.read_until("done", id=2)
        status = daemon.status()
        assert (status["model"]["name"], status["switching"]) == ("guide", None)
        assert engines(daemon) == 1


def test_a_daemon_that_is_stopped_in_the_middle_of_a_switch_ends() -> None:
    with guided(**IN_TURN) as daemon, daemon.raw() as client:
        client.send(question(1, tokens=1900))
        client.read_until("token", id=1)
        with switching(daemon):
            daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(DEADLINE_S) == 0


def test_what_an_engine_measures_beside_another_is_not_kept() -> None:
    with guided() as daemon:
        changed = copied(daemon, "changed")
        weights = bytearray(changed.read_bytes())
        weights[-1] ^= 1  # another model: nothing is known of it
        changed.write_bytes(weights)
        kept = daemon.home / "state" / "engine"
        (before,) = kept.rglob("calibration-*")
        loaded(daemon, "changed")
        assert list(kept.rglob("calibration-*")) == [before]


def test_a_front_that_dies_after_a_switch_leaves_to_the_next_what_its_model_has_begun() -> None:
    """The next front has the configured model: what the other has begun nobody can go on with."""
    with fake_systemd() as systemd:
        other = systemd.home / "other.gguf"
        shutil.copyfile(guide_path(), other)
        systemd.start_and_wait(None, **LLAMA)
        with systemd.greeted() as client:
            client.send(question(1))
            undisturbed = answer_of(client.read_until("done", id=1), 1)
            client.send(question(1, tokens=1200))
            seen = client.read_until("token", id=1)
            client.send({"op": "load", "id": 9, "model": str(other)})
            seen += client.read_until("done", id=9)
            client.send(question(2, tokens=1900))
            seen += client.read_until("token", id=2)
            systemd.kill()
            systemd.start_and_wait(None, **LLAMA)
            seen += client.read_until("error", id=2)
            assert seen[-1]["code"] == "engine_lost"
            if not any(message["op"] == "done" and message["id"] == 1 for message in seen):
                seen += client.read_until("done", id=1)
            assert answer_of(seen, 1).startswith(undisturbed)
            assert seen[-1].get("usage", {"completion_tokens": 1200})["completion_tokens"] == 1200


def test_each_model_in_use_has_its_copy_and_no_other() -> None:
    """1. Another model is loaded: its copy is there, and the one before's until that has ended. 2.
    One is refused by the engine: nothing of it stays, and the serving one's copy is still known, so
    that an engine that dies of a fault finds it undamaged."""
    with guided() as daemon:
        changed = copied(daemon, "changed")
        weights = bytearray(changed.read_bytes())
        weights[-1] ^= 1
        changed.write_bytes(weights)
        (first,) = copies(daemon)
        with daemon.raw() as client:
            client.send(question(1, tokens=1900))
            client.read_until("token", id=1)
            loaded(daemon, "changed")
            both = copies(daemon)
            assert len(both) == 2
            assert first in both
            client.send({"op": "cancel", "id": 1})
            client.read_until("done", id=1)
        wait_until(lambda: len(copies(daemon)) == 1, "the copy of the one before is gone")
        (second,) = copies(daemon)
        assert second != first
        refused = copied(daemon, "refused")
        weights[-100_000:] = bytes([255]) * 100_000  # numbers that are none
        refused.write_bytes(weights)
        with daemon.raw() as administrator:
            administrator.send({"op": "load", "id": 1, "model": "refused"})
            assert administrator.read_until("error", id=1)[-1]["code"] == "model_error"
        assert copies(daemon) == [second]
        psutil.Process(daemon.engine_pid()).send_signal(signal.SIGSEGV)
        wait_until(lambda: daemon.status()["engine"]["restarts"] == 1, "the engine is back")
        assert copies(daemon) == [second]
        assert "was damaged" not in daemon.log


def copies(daemon: RunningDaemon) -> list[str]:
    return sorted(path.name for path in (daemon.home / "run" / "model").glob("*.gguf"))
