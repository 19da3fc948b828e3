"""`qwenctl pull` as a person and a script see it, from a hub on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from qwend.cli.exits import Exit
from qwend.cli.pull_screen import amount
from qwend.models.blob_store import BlobStore
from qwend.models.pull.progress import Progress
from tests.cli.in_process import Ended, InProcess
from tests.cli.qwenctl import QWENCTL
from tests.cli.terminal import terminal
from tests.models.pull.stub_hub import Request, StubHub, digest, model_bytes, stub_hub
from tests.models.support.gguf_builder import tiny_model
from tests.support.daemon import DEADLINE_S, daemon_env, wait_until

DATA = model_bytes()
WHAT = "hf:owner/repo/model.gguf"
Pull = Callable[..., Ended]


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@pytest.fixture
def env(hub: StubHub, tmp_path: Path) -> Mapping[str, str]:
    return {**daemon_env(tmp_path), **hub.environ, "HF_TOKEN": "", "no_proxy": "*"}


@pytest.fixture
def store(env: Mapping[str, str]) -> BlobStore:
    return BlobStore(Path(env["STATE_DIRECTORY"]) / "models")


@pytest.fixture
def pull(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pull:
    here = InProcess(capsys, monkeypatch)
    return lambda env, *arguments: here.run("pull", *arguments, env=env)


def test_a_pull_says_what_it_got_and_what_comes_next(
    pull: Pull, env: Mapping[str, str], store: BlobStore
) -> None:
    done = pull(env, WHAT)

    assert done.returncode == Exit.DONE, done.stderr
    assert done.stdout == ""
    assert "model (Q4_0, 0 MiB) is in the store." in done.stderr
    assert "qwenctl use model" in done.stderr
    assert store.names() == ["model"]


def test_quiet_is_quiet(pull: Pull, env: Mapping[str, str]) -> None:
    done = pull(env, "--quiet", WHAT)

    assert (done.returncode, done.stdout, done.stderr) == (Exit.DONE, "", "")


def test_json_is_one_object_a_line(pull: Pull, env: Mapping[str, str]) -> None:
    done = pull(env, "--json", WHAT)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert {event["event"] for event in events} == {"progress", "done"}
    assert {event.get("stage") for event in events} >= {"asking", "fetching", "checking"}
    assert {"stage", "done_bytes", "total_bytes", "rate", "remaining_s"} <= events[0].keys()
    assert events[-1]["model"]["sha256"] == digest(DATA)


def test_offline_asks_nobody(pull: Pull, env: Mapping[str, str], hub: StubHub) -> None:
    missing = pull(env, "--offline", WHAT)
    assert missing.returncode == Exit.REQUEST_FAILED
    assert "is not here, and nobody may be asked" in missing.stderr
    assert hub.asked == []

    pull(env, WHAT)
    asked = len(hub.asked)
    assert pull({**env, "HF_HUB_OFFLINE": "1"}, WHAT).returncode == Exit.DONE
    assert len(hub.asked) == asked


def test_an_error_is_one_message_and_an_exit_code(pull: Pull, env: Mapping[str, str]) -> None:
    for arguments, code, said in (
        (["qwen-2.5-0.5b-instruct"], Exit.REQUEST_FAILED, "Did you mean 'qwen2.5-0.5b-instruct'"),
        (["https://h/m.gguf"], Exit.USAGE, "--sha256"),
        (["hf:owner/repo/none.gguf", "--from", "hub"], Exit.REQUEST_FAILED, "(not_found)"),
        (["a b"], Exit.USAGE, "cannot be the name"),
        ([WHAT, "--name", "../x"], Exit.USAGE, "--name"),
    ):
        done = pull(env, *arguments)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_without_a_name_it_is_the_model_to_begin_with(
    pull: Pull, env: Mapping[str, str], hub: StubHub
) -> None:
    pull(env, "--from", "hub")

    assert "/Qwen/Qwen2.5-0.5B-Instruct-GGUF/resolve/main/" in hub.asked[0][1]


def test_ctrl_c_keeps_what_came_and_says_how_to_go_on(
    pull: Pull, env: Mapping[str, str], hub: StubHub, store: BlobStore
) -> None:
    def held(request: Request) -> None:
        request.reply(200, DATA, upto=200_000)
        request.handler.connection.settimeout(DEADLINE_S)
        request.handler.rfile.read(1)

    hub.on_file = held
    with terminal([*QWENCTL, "pull", WHAT], env) as screen:
        screen.wait_for("fetching model.gguf")
        part = store.parts / f"{digest(DATA)}.part"
        wait_until(lambda: part.stat().st_size == 200_000, "all of it is written")
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait() == Exit.INTERRUPTED
    assert f"to go on: qwenctl pull {WHAT}" in screen.shown
    assert store.names() == []

    hub.on_file = lambda request: request.serve()
    done = pull(env, WHAT)

    assert done.returncode == Exit.DONE
    assert "going on behind" in done.stderr
    assert hub.ranges()[-1] == "bytes=200000-"


def test_use_is_for_the_next_start_where_no_daemon_is(pull: Pull, env: Mapping[str, str]) -> None:
    done = pull(env, "--use", WHAT)

    config = Path(env["CONFIGURATION_DIRECTORY"]) / "qwend.toml"
    assert config.read_text() == '[model]\nname = "model"\n'
    assert done.returncode == Exit.DONE
    assert "its next start loads model." in done.stdout
    assert f"From now on {config} says" in done.stdout


def test_a_path_is_taken_into_the_store(
    pull: Pull, env: Mapping[str, str], store: BlobStore, tmp_path: Path
) -> None:
    (path := tmp_path / "mine.gguf").write_bytes(tiny_model().build())

    assert pull(env, str(path)).returncode == Exit.DONE
    assert store.names() == ["mine"]


def test_help_of_the_program_does_not_load_what_pulls() -> None:
    script = (
        "import sys, qwend.cli.main; "
        "print(any(name in sys.modules for name in ('http.client', 'ssl', 'rich', 'tomllib')))"
    )
    told = subprocess.run(
        [QWENCTL[0], "-c", script], capture_output=True, text=True, env=dict(os.environ)
    )
    assert told.stdout == "False\n"


def test_an_amount_says_how_far_how_fast_and_how_long() -> None:
    told = Progress("fetching", "m", 1, 1, 100 << 20, 400 << 20, 5e6, 63.0)

    assert amount(told) == "100 MiB of 400 MiB, 5.0 MB/s, 1 min left"
    assert amount(Progress("fetching", "m", done_bytes=3 << 20)) == "3 MiB"
    assert amount(Progress("asking")) == ""
