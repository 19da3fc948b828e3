"""One state directory, one daemon; and what a dead one has left is no daemon."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from qwend.daemon.state_claim import claim_state
from qwend.errors import ConfigError
from tests.support.daemon import DEADLINE_S, running_daemon, started_daemon, wait_until

pytestmark = pytest.mark.row("C6")


def test_a_directory_is_claimed_once_and_again_after_the_undo(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    with ExitStack() as first, ExitStack() as second:
        claim_state(state, first)
        assert os.stat(state).st_mode & 0o777 == 0o700
        with pytest.raises(ConfigError, match=f"another qwend keeps its state in {state}"):
            claim_state(state, second)
    with ExitStack() as third:
        claim_state(state, third)
    assert list(state.iterdir()) == []


def test_a_directory_that_cannot_be_made_is_left_to_those_who_need_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with ExitStack() as undo:
        claim_state(tmp_path / "file", undo)
        claim_state(tmp_path / "file" / "below", undo)
        claim_state(Path("/proc/nowhere"), undo)


def test_a_second_daemon_on_the_state_of_a_living_one_ends_and_the_first_lives_on() -> None:
    """With a socket of its own: only the state is in question."""
    with running_daemon(script={}) as first, first.client() as client:
        state = first.env["STATE_DIRECTORY"]
        with started_daemon(script={}, STATE_DIRECTORY=state) as second:
            assert second.process.wait(DEADLINE_S) == 1
            assert f"qwend: another qwend keeps its state in {state}" in second.log
            assert not second.socket.exists()
        assert client.chat("still there?").wait().finish_reason == "stop"


def test_what_a_killed_daemon_left_is_taken_over() -> None:
    """Socket, lock and state of one that was killed, also if its pid is another process's now: a
    lock is of a process and not of a number."""
    with running_daemon(script={}) as first:
        engine = psutil.Process(first.engine_pid())
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        lock = first.socket.with_name("qwend.sock.lock")
        assert first.socket.is_socket()
        lock.write_text(f"{os.getpid()}\n")
        state = first.env["STATE_DIRECTORY"]
        with started_daemon(
            "--socket", str(first.socket), script={}, STATE_DIRECTORY=state
        ) as second:
            second.socket = first.socket
            wait_until(second.is_up, "the second listens")
            assert second.status()["pid"] == second.process.pid
            assert not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE
            assert second.stop() == 0
        assert not first.socket.exists()
        assert not lock.exists()
