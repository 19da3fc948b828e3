"""A real daemon with the real engine: each memory policy answers, and a spoiled copy is mended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.support.gguf_builder import TensorSpec, tiny_model
from tests.support.daemon import (
    DEADLINE_S,
    RunningDaemon,
    running_daemon,
    started_daemon,
    wait_until,
)

pytestmark = pytest.mark.llama
LLAMA: dict[str, Any] = {"QWEND_ENGINE_BACKEND": "llama", "QWEND_MODEL_CONTEXT": "512"}


def copies(daemon: RunningDaemon) -> list[Path]:
    return sorted((daemon.home / "run" / "model").glob("*.gguf"))


def answer(daemon: RunningDaemon) -> str:
    with daemon.client() as client:
        stream = client.chat("What is qwend?", max_tokens=12, temperature=0.0)
        stream.wait()
        return stream.text


def is_back(daemon: RunningDaemon) -> bool:
    status = daemon.status()
    return bool(status["engine"]["restarts"] and status["state"] in ("ready", "degraded"))


@pytest.mark.parametrize(
    ("policy", "is_warm"), [("keep", True), ("drop", False), ("no-repack", True), ("auto", True)]
)
def test_each_policy_answers_also_after_a_death_of_the_engine(policy: str, is_warm: bool) -> None:
    with running_daemon(**LLAMA, QWEND_MODEL_MEMORY=policy) as daemon:
        status = daemon.status()
        model = status["model"]
        assert model["warm"] is is_warm
        assert model["memory"]["policy"] == ("keep" if policy == "auto" else policy)
        assert model["memory"]["reason"]
        assert status["state"] == "ready"
        assert len(copies(daemon)) == is_warm
        before = answer(daemon)
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        wait_until(lambda: is_back(daemon), "the engine is back")
        assert answer(daemon) == before
        assert len(copies(daemon)) == is_warm


def cut(path: Path) -> None:
    os.truncate(path, 4096)


def overwrite(path: Path) -> None:
    # Scales of quantized blocks that are no numbers any more.
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 4)
        file.write(b"\xff" * (path.stat().st_size // 4 * 3))


@pytest.mark.row("E1", "E4")
@pytest.mark.parametrize(("spoil", "told"), [(cut, "SIGBUS"), (overwrite, "file has changed")])
def test_a_copy_that_is_spoiled_under_the_engine_is_made_again(
    spoil: Callable[[Path], None], told: str
) -> None:
    """1. It answers. 2. The copy is spoiled: the engine dies of it, and says of what. 3. The next
    one gets a good copy, and answers the same request as before."""
    # Computed from the mapped file on every CPU.
    with running_daemon(**LLAMA, QWEND_MODEL_MEMORY="no-repack") as daemon:
        before = answer(daemon)
        (copy,) = copies(daemon)
        good = copy.read_bytes()
        copy.chmod(0o600)
        spoil(copy)
        copy.chmod(0o400)
        assert answer(daemon) == before
        assert told in daemon.log
        assert copies(daemon)[0].read_bytes() == good
        assert daemon.status()["engine"]["restarts"] == 1
        assert "copy of the model was damaged" in daemon.log


def test_a_lock_that_is_refused_is_a_reason_with_what_mends_it() -> None:
    with running_daemon(**LLAMA, QWEND_MODEL_LOCK="on") as daemon:
        status = daemon.status()
        refused = status["engine"]["memory"]["lock_refused"]
        assert status["model"]["memory"]["lock"] is True
        if refused:
            assert status["state"] == "degraded"
            assert "LimitMEMLOCK=infinity" in status["degraded"][0]
        else:
            assert status["state"] == "ready"
            assert status["engine"]["memory"]["locked_bytes"] > 2 << 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_does_not_wait_for_the_copy(tmp_path: Path, number: signal.Signals) -> None:
    """1. A model of 4 GiB of nothing is copied. 2. The signal. 3. The daemon has gone before the
    copy is whole, without a word of complaint, and nothing half-made is left."""
    model = tmp_path / "large.gguf"
    large = tiny_model()
    large.tensors["blk"] = TensorSpec((1 << 30,))
    model.write_bytes(large.build())
    os.truncate(model, model.stat().st_size + (4 << 30))
    with started_daemon("--model", str(model), **LLAMA) as daemon:
        warm_dir = daemon.home / "run" / "model"
        wait_until(lambda: any(warm_dir.glob(".tmp-*")), "a copy is under way")
        daemon.process.send_signal(number)
        assert daemon.process.wait(DEADLINE_S) == 0
        assert list(warm_dir.iterdir()) == []
        assert "stopping before the start is through" in daemon.log
        assert "Error" not in daemon.log


def test_the_copy_stays_at_a_stop_unless_its_memory_is_to_be_freed() -> None:
    for free, left in (("false", 1), ("true", 0)):
        with running_daemon(**LLAMA, QWEND_MODEL_FREE_ON_STOP=free) as daemon:
            assert len(copies(daemon)) == 1
            assert daemon.stop() == 0
            assert len(copies(daemon)) == left
