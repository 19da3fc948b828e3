"""A limit on processes and threads is reached: before a start, and while the daemon runs.

The limit is the pids controller's of a control group, as TasksMax= of a unit sets it; it binds root
too, as RLIMIT_NPROC does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.daemon import DEADLINE_S, started_daemon, wait_until
from tests.systemd.cgroups import Groups, new_name

pytestmark = pytest.mark.row("D6")
# Two threads that compute; numpy's own would be one for each CPU of the machine.
SETTINGS: dict[str, Any] = {
    "QWEND_ENGINE_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
# Front, engine and all their threads are fewer than this.
ENOUGH = 12


@dataclass(frozen=True, slots=True)
class Limit:
    """A control group that what is started by `sys.executable` now joins."""

    directory: Path

    def set(self, processes: int) -> None:
        (self.directory / "pids.max").write_text(str(processes))


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Limit]:
    if os.geteuid() != 0:
        pytest.skip("only root may make a control group")
    try:
        groups = Groups(new_name(6000))
    except OSError as error:
        pytest.skip(f"control groups are refused: {error}")
    try:
        found = [one for one in groups.directories if (one / "pids.max").exists()]
        if not found:
            pytest.skip("no pids controller in the control groups of this machine")
        python = tmp_path / "python"
        join = f"echo $$ > {found[0]}/cgroup.procs"
        python.write_text(f'#!/bin/sh\n{join} && exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        yield Limit(found[0])
    finally:
        groups.remove()


@pytest.mark.llama
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two threads need two CPUs")
def test_under_any_limit_it_answers_with_fewer_threads_or_says_in_a_sentence_why_not(
    limit: Limit,
) -> None:
    """Each limit from two processes on, until nothing is missing any more."""
    outcomes: list[str] = []
    for processes in range(2, ENOUGH):
        limit.set(processes)
        outcomes.append(outcome_of_a_start())
        if outcomes[-1] == "nothing is missing":
            break
    assert outcomes[0] == "no start"
    assert "a thread is missing" in outcomes
    assert outcomes[-1] == "nothing is missing"


def outcome_of_a_start() -> str:
    with started_daemon(**SETTINGS, QWEND_ENGINE_BACKEND="llama") as daemon:

        def is_decided() -> bool:
            return "qwend INFO: ready" in daemon.log or daemon.process.poll() is not None

        wait_until(is_decided, "it is ready or has ended")
        if daemon.process.poll() is not None:
            assert daemon.process.returncode == 1, daemon.log
            assert "Traceback" not in daemon.log
            assert "qwend: starting the threads of qwend: can't start new" in daemon.log
            return "no start"
        with daemon.client() as client:
            assert client.chat("hello", max_tokens=4).wait().usage.completion_tokens > 0
        reasons = " ".join(daemon.status()["degraded"])
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
        if "1 of 2 threads could be started" in reasons:
            return "a thread is missing"
        return "no writer" if "written between steps" in daemon.log else "nothing is missing"


def test_an_engine_that_cannot_be_started_again_comes_once_there_is_room(limit: Limit) -> None:
    """1. The engine is killed when no other process is allowed. 2. The front stays and answers
    what it can. 3. There is room again, and the request that waited is answered."""
    limit.set(ENOUGH)
    with started_daemon(script={}, **SETTINGS) as daemon:
        wait_until(daemon.is_up, "it listens")
        with daemon.client() as client:
            engine = psutil.Process(daemon.engine_pid())
            limit.set(1)
            engine.kill()
            wait_until(lambda: "cannot be started" in daemon.log, "the start was tried")
            stream = client.complete("hello")
            assert client.ping() > 0
            assert client.status()["state"] == "warming"
            limit.set(ENOUGH)
            assert stream.wait().finish_reason == "stop"
            assert stream.text == "hello"
        assert daemon.process.poll() is None
        assert daemon.stop() == 0
        assert daemon.process.wait(DEADLINE_S) == 0
