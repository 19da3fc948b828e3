"""`qwenctl pull` for everybody: the daemon does it, into its own store."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from qwend.cli.exits import Exit
from qwend.cli.models import place
from qwend.models.blob_store import BlobStore
from qwend.wire import Error, Pull
from tests.cli.in_process import Ended, InProcess
from tests.cli.qwenctl import QWENCTL
from tests.cli.terminal import terminal
from tests.client.fake_daemon import Talk, fake_daemon
from tests.models.pull.stub_hub import Request, StubHub, digest, model_bytes, stub_hub
from tests.support.daemon import DEADLINE_S, RunningDaemon, daemon_env, running_daemon, wait_until

DATA = model_bytes()
WHAT = "hf:owner/repo/model.gguf"
Pulling = Callable[..., Ended]


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        yield hub


@pytest.fixture
def web(hub: StubHub) -> dict[str, str]:
    return {**hub.environ, "HF_TOKEN": "", "no_proxy": "*"}


@pytest.fixture
def daemon(web: dict[str, str]) -> Iterator[RunningDaemon]:
    with running_daemon(script={"answer": "x"}, **web) as daemon:
        yield daemon


@pytest.fixture
def env(tmp_path: Path) -> Mapping[str, str]:
    return daemon_env(tmp_path)


@pytest.fixture
def pull(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pulling:
    here = InProcess(capsys, monkeypatch)
    return lambda env, *arguments, socket: here.run("pull", *arguments, env=env, socket=socket)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "fake.sock"


@pytest.fixture
def of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for somebody who is not root, where the daemon is the system's."""
    monkeypatch.setattr(place, "is_for_me_alone", lambda socket_path: True)


def own_store(env: Mapping[str, str]) -> BlobStore:
    return BlobStore(Path(env["STATE_DIRECTORY"]) / "models")


def store_of(daemon: RunningDaemon) -> BlobStore:
    return BlobStore(daemon.home / "state" / "models")


def test_the_daemon_pulls_it_into_its_own_store(
    pull: Pulling, env: Mapping[str, str], daemon: RunningDaemon
) -> None:
    done = pull(env, "--system", WHAT, socket=daemon.socket)

    assert done.returncode == Exit.DONE, done.stderr
    assert done.stdout == ""
    assert "model is in the daemon's store." in done.stderr
    assert "qwenctl use model" in done.stderr
    assert store_of(daemon).names() == ["model"]
    assert own_store(env).names() == []


def test_a_script_sees_the_same_events(
    pull: Pulling, env: Mapping[str, str], daemon: RunningDaemon
) -> None:
    done = pull(env, "--system", "--json", "--name", "mine", WHAT, socket=daemon.socket)

    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == ""
    assert {event.get("stage") for event in events} >= {"asking", "fetching", "checking"}
    fetching = [event for event in events if event.get("stage") == "fetching"]
    # The wire counts whole KiB.
    assert {event["total_bytes"] for event in fetching} == {len(DATA) & ~1023}
    assert events[-1]["event"] == "done"
    assert events[-1]["model"] == {"name": "mine"}


def test_ctrl_c_stops_the_daemons_pull_and_says_how_to_go_on(
    env: Mapping[str, str], daemon: RunningDaemon, hub: StubHub
) -> None:
    over = threading.Event()

    def held(request: Request) -> None:
        request.reply(200, DATA, upto=200_000)
        request.handler.wfile.flush()
        over.wait(DEADLINE_S)

    hub.on_file = held
    part = store_of(daemon).parts / f"{digest(DATA)}.part"
    command = [*QWENCTL, "--socket", str(daemon.socket), "pull", "--system", WHAT]
    with terminal(command, env) as screen:
        screen.wait_for("fetching model.gguf")
        wait_until(lambda: part.stat().st_size == 200_000, "all of it is written")
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait() == Exit.INTERRUPTED
    assert f"to go on: qwenctl pull {WHAT} --system" in " ".join(screen.shown.split())
    wait_until(lambda: "nobody waits for" in daemon.log, "the daemon has stopped it")
    assert part.stat().st_size == 200_000
    over.set()


def test_who_is_no_administrator_is_told_what_there_is_instead(
    pull: Pulling, env: Mapping[str, str], socket_path: Path
) -> None:
    def script(talk: Talk) -> None:
        talk.greet()
        talk.expect(Pull)
        talk.say(Error("forbidden", "pull is for administrators: root", id=0))
        talk.expect_end()

    with fake_daemon(socket_path, script):
        done = pull(env, "--system", WHAT, socket=socket_path)
    assert done.returncode == Exit.REFUSED
    assert "Ask one of them, or leave out --system: it goes into your own store" in done.stderr


@pytest.mark.usefixtures("of_ones_own")
def test_an_administrator_need_not_say_that_it_is_for_everybody(
    pull: Pulling, env: Mapping[str, str], daemon: RunningDaemon
) -> None:
    assert pull(env, WHAT, socket=daemon.socket).returncode == Exit.DONE
    assert store_of(daemon).names() == ["model"]
    assert own_store(env).names() == []


@pytest.mark.usefixtures("of_ones_own")
def test_an_administrator_may_have_one_alone(
    pull: Pulling, env: Mapping[str, str], web: dict[str, str], daemon: RunningDaemon
) -> None:
    done = pull({**env, **web}, "--own", WHAT, socket=daemon.socket)
    assert done.returncode == Exit.DONE
    assert "It is in your own store" in done.stderr
    assert own_store(env).names() == ["model"]
    assert store_of(daemon).names() == []


@pytest.mark.usefixtures("of_ones_own")
def test_others_pull_into_their_own_store(
    pull: Pulling, env: Mapping[str, str], web: dict[str, str], socket_path: Path
) -> None:
    def script(talk: Talk) -> None:
        talk.greet("administration", "loading")
        talk.expect_end()

    with fake_daemon(socket_path, script):
        assert pull({**env, **web}, WHAT, socket=socket_path).returncode == Exit.DONE
    assert own_store(env).names() == ["model"]
    done = pull({**env, **web}, "--name", "another", WHAT, socket=socket_path)  # nobody answers
    assert done.returncode == Exit.DONE
    assert own_store(env).names() == ["another", "model"]


def test_it_is_said_that_ones_own_mirror_is_not_used(
    pull: Pulling, env: Mapping[str, str], daemon: RunningDaemon
) -> None:
    mine = {**env, "HF_ENDPOINT": "http://nowhere.invalid", "HF_TOKEN": "hf_secret"}
    done = pull(mine, "--system", WHAT, socket=daemon.socket)
    assert done.returncode == Exit.DONE
    assert "HF_ENDPOINT, HF_TOKEN of yours is not used" in done.stderr
    assert "/etc/qwend/pull.env" in done.stderr
    assert "secret" not in done.stderr


def test_a_file_of_ones_own_is_none_for_the_daemon(
    pull: Pulling, env: Mapping[str, str], daemon: RunningDaemon
) -> None:
    done = pull(env, "--system", "./mine.gguf", socket=daemon.socket)
    assert done.returncode == Exit.USAGE
    assert "models import" in done.stderr


def test_without_a_daemon_nobody_pulls_for_everybody(pull: Pulling, env: Mapping[str, str]) -> None:
    done = pull(env, "--system", WHAT, socket="/nowhere/qwend.sock")
    assert done.returncode == Exit.UNREACHABLE
    assert own_store(env).names() == []
