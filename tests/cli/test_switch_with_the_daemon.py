"""`qwenctl use`, `load` and `unload` as people meet them: a real daemon, with real models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwend.cli.exits import Exit
from qwend.models.store import guide_path
from tests.cli.in_process import Ended, InProcess
from tests.support.daemon import RunningDaemon, running_daemon, wait_until

pytestmark = pytest.mark.llama
Qwenctl = Callable[..., Ended]


@pytest.fixture(scope="module")
def served() -> Iterator[RunningDaemon]:
    """It answers with the guide at first; `other` is there too."""
    with running_daemon(QWEND_ENGINE_BACKEND="llama") as daemon:
        models = daemon.home / "state" / "models"
        models.mkdir(exist_ok=True)
        shutil.copy(guide_path(), models / "other.gguf")
        wait_until(lambda: daemon.status()["state"] in ("ready", "degraded"), "it is ready")
        yield daemon


@pytest.fixture
def qwenctl(
    served: RunningDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Qwenctl:
    here = InProcess(capsys, monkeypatch)
    return lambda *arguments: here.run(*arguments, env=served.env, socket=served.socket)


def model_of(daemon: RunningDaemon) -> str:
    name: str = daemon.status()["model"]["name"]
    return name


def test_use_has_the_next_answer_come_from_it_and_every_start(
    qwenctl: Qwenctl, served: RunningDaemon
) -> None:
    done = qwenctl("use", "other")

    assert done.returncode == Exit.DONE, done.stderr
    assert done.stdout.startswith("other answers now, after ")
    assert "2,048 tokens of context" in done.stdout
    answer = json.loads(qwenctl("ask", "--json", "What is qwend?").stdout)
    assert answer["model"] == "other"
    assert "daemon" in answer["text"]
    assert qwenctl("models", "default").stdout == "other\n"
    assert qwenctl("reload").stdout == "the configuration is read again, and requests are taken\n"
    rows = json.loads(qwenctl("models", "list", "--json").stdout)
    assert [row["role"] for row in rows] == ["", "resident"]


def test_what_cannot_be_loaded_leaves_all_as_it_was(
    qwenctl: Qwenctl, served: RunningDaemon, tmp_path: Path
) -> None:
    before, default = model_of(served), qwenctl("models", "default").stdout
    whole = guide_path().read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.gguf").write_bytes(b"")

    for model, said in (
        ("othr", "Did you mean 'other'?"),
        ("qwen3-0.6b", "`qwenctl pull qwen3-0.6b` gets it"),
        (f"{tmp_path}/none.gguf", "does not exist"),
        (f"{tmp_path}/cut.gguf", "cut.gguf"),
        (f"{tmp_path}/empty.gguf", "is empty"),
    ):
        done = qwenctl("use", model)
        assert done.returncode == Exit.REQUEST_FAILED
        assert said in done.stderr
        assert done.stderr.endswith("(model_error)\n")

    assert model_of(served) == before
    assert qwenctl("models", "default").stdout == default
    assert qwenctl("ask", "--max-tokens", "4", "What is qwend?").returncode == Exit.DONE


def test_load_takes_a_path_of_this_directory_and_no_default(
    qwenctl: Qwenctl, served: RunningDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = qwenctl("models", "default").stdout
    shutil.copy(guide_path(), tmp_path / "mine.gguf")
    monkeypatch.chdir(tmp_path)

    assert qwenctl("load", "mine.gguf").returncode == Exit.DONE
    assert served.status()["model"]["path"] == f"{tmp_path}/mine.gguf"
    assert qwenctl("models", "default").stdout == default
    assert qwenctl("load", "guide").returncode == Exit.DONE
    assert model_of(served) == "guide"


def test_what_was_let_go_comes_back_for_the_next_request(
    qwenctl: Qwenctl, served: RunningDaemon
) -> None:
    name = model_of(served)

    done = qwenctl("unload")

    assert done.returncode == Exit.DONE, done.stderr
    assert done.stdout.startswith(f"{name} is unloaded")
    shown = qwenctl("status").stdout
    assert "engine    unloaded by an administrator" in shown
    assert "None" not in shown
    assert qwenctl("ask", "--max-tokens", "4", "What is qwend?").returncode == Exit.DONE
    assert "unloaded" not in qwenctl("status").stdout
