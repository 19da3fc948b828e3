"""Tuning on a fake machine: what is planned, what is changed, and that it is put back."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwend.config import Config, EngineConfig, HostConfig
from qwend.daemon.tuning import GOVERNOR_RECORD, tune
from qwend.host.root import HostRoot
from qwend.paths import Mode, Paths

POLICY = "sys/devices/system/cpu/cpufreq/policy0"


@pytest.fixture
def machine(tmp_path: Path) -> HostRoot:
    """The CPUs that this process may use, with one clock between them."""
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    root = tmp_path / "root"
    for path, text in {
        "sys/devices/system/cpu/online": cpus,
        f"{POLICY}/scaling_governor": "powersave",
        f"{POLICY}/scaling_available_governors": "performance powersave",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return HostRoot(root)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return Paths(
        Mode.USER, tmp_path / "s", tmp_path / "c", state, tmp_path / "models", tmp_path / "warm"
    )


def governor(machine: HostRoot) -> str:
    return (machine.path / POLICY / "scaling_governor").read_text().strip()


def test_without_wishes_nothing_is_changed(machine: HostRoot, paths: Paths) -> None:
    with ExitStack() as undo:
        tuning = tune(Config(), machine, paths, undo)
        assert governor(machine) == "powersave"
    assert tuning.degraded == ()
    assert set(tuning.plan.cpus) <= os.sched_getaffinity(0)
    assert tuning.plan.threads == len(tuning.plan.cpus)
    assert list(paths.state.iterdir()) == []


def test_configured_threads_and_cpus_are_the_plan(machine: HostRoot, paths: Paths) -> None:
    cpu = min(os.sched_getaffinity(0))
    config = Config(engine=EngineConfig(threads=1), host=HostConfig(affinity=(cpu,)))
    with ExitStack() as undo:
        assert tune(config, machine, paths, undo).plan.cpus == (cpu,)


def test_the_governor_is_set_and_put_back(machine: HostRoot, paths: Paths) -> None:
    config = Config(host=HostConfig(governor="performance"))
    with ExitStack() as undo:
        assert tune(config, machine, paths, undo).degraded == ()
        assert governor(machine) == "performance"
    assert governor(machine) == "powersave"
    assert not (paths.state / GOVERNOR_RECORD).exists()


def test_a_governor_that_is_not_offered_is_a_reason_and_no_error(
    machine: HostRoot, paths: Paths
) -> None:
    with ExitStack() as undo:
        tuning = tune(Config(host=HostConfig(governor="schedutil")), machine, paths, undo)
    (reason,) = tuning.degraded
    assert "schedutil" in reason
    assert governor(machine) == "powersave"


def test_what_a_killed_run_has_left_is_put_back(machine: HostRoot, paths: Paths) -> None:
    killed = ExitStack()  # never closed, as after SIGKILL
    tune(Config(host=HostConfig(governor="performance")), machine, paths, killed)
    killed.pop_all()
    assert governor(machine) == "performance"
    with ExitStack() as undo:
        tune(Config(), machine, paths, undo)
        assert governor(machine) == "powersave"


def test_a_record_that_cannot_be_read_is_a_reason_and_no_error(
    machine: HostRoot, paths: Paths
) -> None:
    (paths.state / GOVERNOR_RECORD).write_text("nonsense")
    with ExitStack() as undo:
        (reason,) = tune(Config(), machine, paths, undo).degraded
    assert GOVERNOR_RECORD in reason


def test_a_machine_that_says_nothing_gets_a_plan_all_the_same(tmp_path: Path, paths: Paths) -> None:
    with ExitStack() as undo:
        assert tune(Config(), HostRoot(tmp_path / "empty"), paths, undo).plan.threads >= 1
