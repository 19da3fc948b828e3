"""`qwenctl load`, `use` and `unload`, against a daemon that says exactly what the test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from qwend.cli.exits import Exit
from qwend.cli.switch import as_sent
from qwend.models.blob_store import BlobStore
from qwend.models.intake import import_file
from qwend.wire import Cancel, Error, Load, Progress, Status, StatusReply, Unload
from tests.cli.in_process import NOWHERE, Ended, InProcess
from tests.cli.qwenctl import QWENCTL
from tests.cli.terminal import terminal
from tests.client.fake_daemon import Talk, fake_daemon
from tests.models.support.gguf_builder import tiny_model
from tests.support.daemon import daemon_env

Switch = Callable[..., Ended]
TINY = {
    "model": {"name": "tiny", "train_context": 4096},
    "engine": {"context_cells": 8192, "step_ms": {"1": 20.0}},
}
GUIDE = {"model": {"name": "guide"}}


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return daemon_env(tmp_path)


@pytest.fixture
def config(env: Mapping[str, str]) -> Path:
    return Path(env["CONFIGURATION_DIRECTORY"]) / "qwend.toml"


@pytest.fixture
def store(env: Mapping[str, str], tmp_path: Path) -> BlobStore:
    """With one model, `tiny`."""
    (file := tmp_path / "tiny.gguf").write_bytes(tiny_model().build())
    store = BlobStore(Path(env["STATE_DIRECTORY"]) / "models")
    import_file(store, str(file))
    return store


@pytest.fixture
def qwenctl(
    env: Mapping[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Switch:
    here = InProcess(capsys, monkeypatch)
    return lambda *arguments, socket=NOWHERE, **more: here.run(
        *arguments, env={**env, **more}, socket=socket
    )


def loads(talk: Talk, model: str = "tiny", status: Mapping[str, object] = TINY) -> None:
    talk.greet("loading")
    assert talk.expect(Load) == Load(0, model)
    talk.say(Progress(0, "waiting", 0, 2), Progress(0, "waiting", 0, 1))
    talk.say(*(Progress(0, "loading", percent, 100) for percent in (0, 1, 2, 50, 100)))
    talk.finish(0, "loaded")
    talk.expect(Status)
    talk.say(StatusReply(status))
    talk.expect_end()


# load


def test_load_says_what_answers_now_and_how_fast(qwenctl: Switch, tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "s", loads) as path:
        done = qwenctl("load", "tiny", socket=path)

    assert done.returncode == Exit.DONE
    assert done.stdout.startswith("tiny answers now, after 0.")
    assert done.stdout.endswith(" s: 4,096 tokens of context, about 50 tokens/s.\n")
    assert done.stderr.splitlines() == [
        "waiting for 2 answers to end",
        "waiting for 1 answer to end",
        "loading tiny",
    ]


def test_quiet_is_quiet(qwenctl: Switch, tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "s", loads) as path:
        assert qwenctl("load", "tiny", "--quiet", socket=path) == Ended(Exit.DONE, "", "")


def test_json_is_one_object_a_line(qwenctl: Switch, tmp_path: Path) -> None:
    with fake_daemon(tmp_path / "s", loads) as path:
        done = qwenctl("load", "tiny", "--json", socket=path)

    *told, last = map(json.loads, done.stdout.splitlines())
    assert done.stderr == ""
    assert [(each["stage"], each["done"], each["total"]) for each in told] == [
        ("waiting", 0, 2),
        ("waiting", 0, 1),
        ("loading", 0, 100),
        ("loading", 50, 100),
        ("loading", 100, 100),
    ]
    assert last.pop("took_s") >= 0
    assert last == {
        "event": "loaded",
        "model": "tiny",
        "was_loaded": False,
        "context": 4096,
        "tokens_s": 50.0,
    }


def test_a_relative_path_is_sent_as_the_daemon_can_find_it(
    qwenctl: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given, sent in (
        ("m.gguf", tmp_path / "m.gguf"),
        ("./m", tmp_path / "m"),
        ("~/m.gguf", Path("~/m.gguf").expanduser()),
        ("/m", Path("/m")),
    ):
        assert as_sent(given) == str(sent)
    assert as_sent("qwen3-0.6b:Q8_0") == "qwen3-0.6b:Q8_0"

    with fake_daemon(tmp_path / "s", lambda talk: loads(talk, f"{tmp_path}/m.gguf")) as path:
        assert qwenctl("load", "m.gguf", socket=path).returncode == Exit.DONE


def test_what_the_daemon_says_of_a_bad_model_is_the_message(
    qwenctl: Switch, tmp_path: Path
) -> None:
    def refuses(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.say(Error("model_error", "there is no model 'tini'. Did you mean 'tiny'?", id=0))
        talk.expect_end()

    with fake_daemon(tmp_path / "s", refuses) as path:
        done = qwenctl("load", "tini", socket=path)

    assert done.returncode == Exit.REQUEST_FAILED
    assert done.stderr == "qwenctl: there is no model 'tini'. Did you mean 'tiny'? (model_error)\n"


def test_who_is_no_administrator_is_told_the_command_that_would(
    qwenctl: Switch, tmp_path: Path
) -> None:
    def refuses(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.say(Error("forbidden", "load is for administrators", id=0))
        talk.expect_end()

    for command in ("load", "use"):
        with fake_daemon(tmp_path / command, refuses) as path:
            done = qwenctl(command, "/a b/m.gguf", socket=path)

        assert done.returncode == Exit.REFUSED
        assert done.stderr == (
            f"qwenctl: load is for administrators; as root: sudo qwenctl {command} '/a b/m.gguf'\n"
        )


def test_an_old_daemon_is_said_to_be_one(qwenctl: Switch, tmp_path: Path) -> None:
    def old(talk: Talk) -> None:
        talk.greet("administration")
        talk.expect_end()

    with fake_daemon(tmp_path / "s", old) as path:
        done = qwenctl("load", "tiny", socket=path)

    assert done.returncode == Exit.REQUEST_FAILED
    assert "(fake 0) cannot change its model while it runs" in done.stderr


def test_without_a_daemon_there_is_nothing_to_load_into(qwenctl: Switch) -> None:
    assert qwenctl("load", "tiny").returncode == Exit.UNREACHABLE
    assert qwenctl("unload").returncode == Exit.UNREACHABLE


def test_a_model_that_answers_already_is_said_to(qwenctl: Switch, tmp_path: Path) -> None:
    def has_it(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.finish(0, "loaded")
        talk.expect(Status)
        talk.say(StatusReply(TINY))
        talk.expect_end()

    with fake_daemon(tmp_path / "s", has_it) as path:
        done = qwenctl("load", "tiny", socket=path)

    said = "tiny answers already: 4,096 tokens of context, about 50 tokens/s.\n"
    assert done == Ended(Exit.DONE, said, "")


# unload


def test_unload_says_what_it_let_go_of(qwenctl: Switch, tmp_path: Path) -> None:
    def lets_go(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Unload)
        talk.finish(0, "unloaded")
        talk.expect(Status)
        talk.say(StatusReply(TINY))
        talk.expect_end()

    with fake_daemon(tmp_path / "s", lets_go) as path:
        done = qwenctl("unload", socket=path)

    assert done.returncode == Exit.DONE
    assert done.stdout.startswith("tiny is unloaded; the next request loads it again")


# use


def test_use_loads_and_makes_it_the_default(qwenctl: Switch, tmp_path: Path, config: Path) -> None:
    with fake_daemon(tmp_path / "s", loads) as path:
        done = qwenctl("use", "tiny", socket=path)

    assert done.returncode == Exit.DONE
    assert "tiny answers now" in done.stdout
    assert f"{config} says:" in done.stdout
    assert config.read_text() == '[model]\nname = "tiny"\n'

    with fake_daemon(tmp_path / "s2", loads) as path:
        assert "It was the default already." in qwenctl("use", "tiny", socket=path).stdout


def test_use_writes_a_path_as_every_start_finds_it(
    qwenctl: Switch, tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with fake_daemon(tmp_path / "s", lambda talk: loads(talk, f"{tmp_path}/m.gguf")) as path:
        done = qwenctl("use", "./m.gguf", "--json", socket=path)

    assert json.loads(done.stdout.splitlines()[-1])["default"] is True
    assert config.read_text() == f'[model]\nname = "{tmp_path}/m.gguf"\n'


def test_a_model_that_cannot_be_loaded_does_not_become_the_default(
    qwenctl: Switch, tmp_path: Path, config: Path
) -> None:
    def refuses(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.say(Error("model_error", "/m.gguf is cut off", id=0))
        talk.expect_end()

    with fake_daemon(tmp_path / "s", refuses) as path:
        assert qwenctl("use", "/m.gguf", socket=path).returncode == Exit.REQUEST_FAILED
    assert not config.exists()


def test_use_without_a_daemon_is_for_its_next_start(
    qwenctl: Switch, store: BlobStore, config: Path
) -> None:
    done = qwenctl("use", "tiny")

    assert done.returncode == Exit.DONE
    assert done.stdout == (
        f"No daemon answers at {NOWHERE}; its next start loads tiny.\n"
        f'From now on {config} says: name = "tiny" under [model].\n'
    )
    assert config.read_text() == '[model]\nname = "tiny"\n'
    assert "It was the default already." in qwenctl("use", "tiny").stdout
    assert json.loads(qwenctl("use", "tiny", "--json").stdout) == {
        "event": "chosen",
        "model": "tiny",
    }


def test_without_a_daemon_a_bad_file_does_not_become_the_default(
    qwenctl: Switch, store: BlobStore, config: Path, tmp_path: Path
) -> None:
    whole = (tmp_path / "tiny.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])

    for command in (("use",), ("models", "default")):
        cut = qwenctl(*command, f"{tmp_path}/cut.gguf")
        assert cut.returncode == Exit.REQUEST_FAILED
        assert f"{tmp_path}/cut.gguf" in cut.stderr
        typo = qwenctl(*command, "tini")
        assert "Did you mean 'tiny'?" in typo.stderr
    assert not config.exists()


def test_a_configuration_that_cannot_be_written_is_said_behind_what_was_done(
    qwenctl: Switch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (no_directory := tmp_path / "etc").write_text("")
    where = {"CONFIGURATION_DIRECTORY": str(no_directory)}
    with fake_daemon(tmp_path / "s", loads) as path:
        done = qwenctl("use", "tiny", socket=path, **where)

    assert done.returncode == Exit.USAGE
    assert done.stdout.startswith("tiny answers now")
    assert "qwenctl: but only until the daemon's next start: " in done.stderr
    assert f"{no_directory}/qwend.toml" in done.stderr
    assert "sudo" not in done.stderr

    # The daemon is the system's, and the person an administrator of it, but not root.
    monkeypatch.setattr("qwend.cli.models.place.SYSTEM_SOCKET", tmp_path / "system")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with fake_daemon(tmp_path / "system", loads) as path:
        done = qwenctl("use", "tiny", socket=path, **where)

    assert done.stderr.endswith("; or: sudo qwenctl use tiny\n")


def test_where_the_environment_names_the_configuration_that_is_the_one_written(
    qwenctl: Switch, store: BlobStore, config: Path, tmp_path: Path
) -> None:
    (named := tmp_path / "q.toml").write_text("")

    qwenctl("use", "tiny", QWEND_CONFIG=str(named))

    assert named.read_text() == '[model]\nname = "tiny"\n'
    assert not config.exists()


# On a terminal


def test_a_terminal_shows_one_line_that_is_gone_at_the_end(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    at_socket = [*QWENCTL, "--socket", str(tmp_path / "s")]
    with (
        fake_daemon(tmp_path / "s", loads),
        terminal([*at_socket, "load", "tiny"], env) as screen,
    ):
        assert screen.wait() == Exit.DONE

    assert "loading tiny" in screen.shown
    # EL of ECMA-48: it is erased, and not written again.
    assert -1 < screen.raw.rfind(b"100 %") < screen.raw.rfind(b"\x1b[2K")
    last = [line for line in screen.shown.replace("\r", "\n").split("\n") if line.strip()][-1]
    assert last.startswith("tiny answers now")


def test_a_terminal_that_cannot_redraw_gets_lines(env: Mapping[str, str], tmp_path: Path) -> None:
    dumb = ["env", "TERM=dumb", *QWENCTL, "--socket", str(tmp_path / "s"), "load", "tiny"]
    with fake_daemon(tmp_path / "s", loads), terminal(dumb, env) as screen:
        assert screen.wait() == Exit.DONE
    assert [line.strip() for line in screen.shown.splitlines()][:3] == [
        "waiting for 2 answers to end",
        "waiting for 1 answer to end",
        "loading tiny",
    ]


def test_a_file_may_have_any_name(env: Mapping[str, str], tmp_path: Path) -> None:
    name = f"{tmp_path}/[red].gguf"
    with (
        fake_daemon(tmp_path / "s", lambda talk: loads(talk, name)),
        terminal([*QWENCTL, "--socket", str(tmp_path / "s"), "load", name], env) as screen,
    ):
        assert screen.wait() == Exit.DONE
    assert "loading [red].gguf" in screen.shown


def test_ctrl_c_takes_the_order_back_and_says_what_serves_on(
    env: Mapping[str, str], tmp_path: Path, config: Path
) -> None:
    # 1. It loads.  2. Ctrl-C: a cancel comes.  3. The daemon has ended it: who answers is said.
    def script(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.say(Progress(0, "loading", 7, 100))
        assert talk.expect(Cancel) == Cancel(0)
        talk.finish(0, "cancelled")
        talk.expect(Status)
        talk.say(StatusReply(GUIDE))
        talk.expect_end()

    at_socket = [*QWENCTL, "--socket", str(tmp_path / "s")]
    with (
        fake_daemon(tmp_path / "s", script),
        terminal([*at_socket, "use", "tiny"], env) as screen,
    ):
        screen.wait_for("7 %")
        screen.type("\x03")
        assert screen.wait() == Exit.INTERRUPTED
    assert "Stopped: guide serves on." in screen.shown
    assert not config.exists()


def test_what_was_loaded_before_the_cancel_came_is_said_to_be_loaded(
    env: Mapping[str, str], tmp_path: Path
) -> None:
    def script(talk: Talk) -> None:
        talk.greet("loading")
        talk.expect(Load)
        talk.say(Progress(0, "loading", 99, 100))
        talk.expect(Cancel)
        talk.finish(0, "loaded")
        talk.expect(Status)
        talk.say(StatusReply(TINY))
        talk.expect_end()

    at_socket = [*QWENCTL, "--socket", str(tmp_path / "s")]
    with (
        fake_daemon(tmp_path / "s", script),
        terminal([*at_socket, "load", "tiny"], env) as screen,
    ):
        screen.wait_for("99 %")
        screen.type("\x03")
        assert screen.wait() == Exit.DONE
    assert "tiny answers now" in screen.shown
