"""A daemon that cannot start ends with one sentence, and leaves nothing behind."""

from __future__ import annotations

import errno
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.fake_systemd import FakeSystemd, fake_systemd
from tests.models.support.gguf_builder import tiny_model
from tests.support.daemon import (
    DEADLINE_S,
    RunningDaemon,
    running_daemon,
    started_daemon,
    wait_until,
)

LLAMA: dict[str, Any] = {"QWEND_ENGINE_BACKEND": "llama"}


def told_at_the_end(daemon: RunningDaemon) -> str:
    """The one line that it ended with, after exit status 1."""
    assert daemon.process.wait(DEADLINE_S) == 1, daemon.log
    assert "Traceback" not in daemon.log
    (line,) = [line for line in daemon.log.splitlines() if line.startswith("qwend: ")]
    return line


def left_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not path.is_dir()]


@pytest.mark.row("C6")
def test_a_second_daemon_on_the_socket_ends_and_the_first_lives_on() -> None:
    with running_daemon(script={}) as first, first.client() as client:
        with started_daemon("--socket", str(first.socket), script={}) as second:
            told = told_at_the_end(second)
            assert "already listening" in told
            assert str(first.socket) in told
        stream = client.chat("still there?")
        assert stream.wait().finish_reason == "stop"
        assert first.socket.exists()


@pytest.mark.row("C6")
def test_the_path_of_a_killed_daemon_can_be_used_again() -> None:
    with running_daemon(script={}) as first:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        assert first.socket.is_socket()
        with started_daemon("--socket", str(first.socket), script={}) as second:
            second.socket = first.socket
            wait_until(second.is_up, "the second listens")
            assert second.status()["pid"] == second.process.pid


BAD_MODELS = {
    "missing": (None, "no such file|not there|does not exist|cannot"),
    "empty": (b"", "empty|GGUF|short"),
    "not a GGUF": (b"PK\x03\x04" + bytes(1000), "GGUF"),
    "truncated header": (tiny_model().build()[:200], "ends|short|truncated|cut"),
    "truncated tensors": (tiny_model().build()[:-64], "ends|short|truncated|cut|beyond"),
    "another architecture": (tiny_model("llama").build(), "llama"),
}


@pytest.mark.row("E3", "E5")
@pytest.mark.parametrize("name", BAD_MODELS)
@pytest.mark.parametrize("warm_copy", ["auto", "off"])
def test_a_model_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, name: str, warm_copy: str
) -> None:
    content, reason = BAD_MODELS[name]
    model = tmp_path / "model.gguf"
    if content is not None:
        model.write_bytes(content)
    with started_daemon("--model", str(model), **LLAMA, QWEND_MODEL_WARM_COPY=warm_copy) as daemon:
        told = told_at_the_end(daemon)
        assert "model.gguf" in told
        assert re.search(reason, told), told
        assert not daemon.socket.exists()
        # A warm copy stays on purpose: the next start of the same file finds it.
        run = daemon.home / "run"
        assert [path for path in left_in(run) if "model" not in path.parts] == []


@pytest.mark.row("E5")
def test_a_name_that_is_not_installed_is_answered_with_those_that_are() -> None:
    with started_daemon("--model", "no-such-model", **LLAMA) as daemon:
        told = told_at_the_end(daemon)
        assert "no-such-model" in told
        assert "guide" in told


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"QWEND_LIMITS_CONECTIONS": "5"}, "QWEND_LIMITS_CONNECTIONS"),
        ({"QWEND_LIMITS_CONNECTIONS": "0"}, "QWEND_LIMITS_CONNECTIONS"),
        ({"QWEND_SOCKET_GROUP": '"no-such-group"'}, "no-such-group"),
        ({"QWEND_SOCKET_PATH": '"/nowhere/' + "x" * 120 + '"'}, "107"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], named: str) -> None:
    with started_daemon(script={}, **settings) as daemon:
        assert named in told_at_the_end(daemon)
        assert not daemon.socket.exists()
        assert left_in(daemon.home / "run") == []


def test_a_configuration_file_that_is_missing_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "qwend.toml"
    with started_daemon("--config", str(missing), script={}) as daemon:
        assert str(missing) in told_at_the_end(daemon)


def test_what_stands_in_the_way_of_the_socket_is_named_and_stays(tmp_path: Path) -> None:
    precious = tmp_path / "s"
    precious.write_text("precious")
    with started_daemon("--socket", str(precious), script={}) as daemon:
        assert str(precious) in told_at_the_end(daemon)
    assert precious.read_text() == "precious"


@pytest.mark.row("E5")
@pytest.mark.parametrize("step", [1, 9])
def test_an_engine_that_dies_at_the_first_start_is_told_and_not_tried_again(step: int) -> None:
    """While it calibrates, or, decode 9, at the system prompt: the start has failed then, and
    nobody is left to wait for it until systemd's patience is over."""
    with started_daemon(script={"die_at_step": step}) as daemon:
        assert "SIGKILL" in told_at_the_end(daemon)
        assert not daemon.socket.exists()
        assert left_in(daemon.home / "run") == []


@pytest.mark.row("E5")
@pytest.mark.parametrize(
    ("settings", "reason", "number"),
    [
        ({"QWEND_LIMITS_CONNECTIONS": "0"}, "QWEND_LIMITS_CONNECTIONS", errno.EINVAL),
        ({"QWEND_ENGINE_BACKEND": "llama", "QWEND_MODEL_NAME": "none"}, "none", errno.EINVAL),
        ({"QWEND_CONFIG": "/nowhere/qwend.toml"}, "/nowhere/qwend.toml", errno.ENOENT),
        ({"QWEND_SCRIPT": '{"die_at_step": 9}'}, "SIGKILL", errno.EINVAL),
    ],
)
def test_systemd_is_told_why_a_start_has_failed(
    settings: dict[str, str], reason: str, number: int
) -> None:
    with fake_systemd() as systemd:
        systemd.start(None, **settings)
        assert ended(systemd) == 1
        status, error = systemd.said[-1]
        assert status.startswith("STATUS=failed: ")
        assert reason in status
        assert error == f"ERRNO={number}"
        assert not systemd.says("READY=1")


def ended(systemd: FakeSystemd) -> int:
    assert systemd.process is not None
    systemd.until(lambda: systemd.process and systemd.process.poll() is not None, "it ends")
    systemd.listen()
    return systemd.process.returncode
