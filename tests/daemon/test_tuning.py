"""Tuning on a fake machine: what is planned, what is changed, and that it is put back."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from qwend.config import Config, EngineConfig, HostConfig
from qwend.daemon.tuning import GOVERNOR_RECORD, tune
from qwend.host.root import HostRoot
from qwend.paths import Mode, Paths
from tests.host.machines import SYS, policy

GOVERNOR = f"{SYS}/cpufreq/policy0/scaling_governor"


@pytest.fixture
def machine(tmp_path: Path) -> HostRoot:
    """The CPUs that this process may use, with one clock between them."""
    cpus = sorted(os.sched_getaffinity(0))
    root = HostRoot(tmp_path / "root")
    files = policy((0,), 1, governor="powersave", governors="performance powersave")
    files[f"{SYS}/online"] = ",".join(map(str, cpus)) + "\n"
    for path, text in files.items():
        root.at(path).parent.mkdir(parents=True, exist_ok=True)
        root.at(path).write_text(text)
    return root


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    return Paths(
        Mode.USER, tmp_path / "s", tmp_path / "c", state, tmp_path / "models", tmp_path / "warm"
    )


class ReadOnly(HostRoot):
    """/sys as a user, and as the service, sees it."""

    def may_write(self, path: str) -> bool:
        return False


def governor(machine: HostRoot) -> str:
    return machine.read_text(GOVERNOR).strip()


def wanting(governor: str, energy_preference: str = "") -> Config:
    return Config(host=HostConfig(governor=governor, energy_preference=energy_preference))


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
    with ExitStack() as undo:
        assert tune(wanting("performance"), machine, paths, undo).degraded == ()
        assert governor(machine) == "performance"
    assert governor(machine) == "powersave"
    assert not (paths.state / GOVERNOR_RECORD).exists()


def test_a_governor_that_is_not_offered_is_a_reason_and_no_error(
    machine: HostRoot, paths: Paths
) -> None:
    with ExitStack() as undo:
        (reason,) = tune(wanting("schedutil"), machine, paths, undo).degraded
    assert "schedutil" in reason
    assert governor(machine) == "powersave"


def test_what_a_killed_run_has_left_is_put_back(machine: HostRoot, paths: Paths) -> None:
    killed = ExitStack()  # never closed, as after SIGKILL
    tune(wanting("performance"), machine, paths, killed)
    killed.pop_all()
    assert governor(machine) == "performance"
    with ExitStack() as undo:
        assert tune(Config(), machine, paths, undo).degraded == ()
        assert governor(machine) == "powersave"


def test_a_record_that_cannot_be_read_is_a_reason_and_no_error(
    machine: HostRoot, paths: Paths
) -> None:
    (paths.state / GOVERNOR_RECORD).write_text("nonsense")
    with ExitStack() as undo:
        (reason,) = tune(Config(), machine, paths, undo).degraded
    assert GOVERNOR_RECORD in reason


def test_a_user_is_told_the_command_that_would_set_it(machine: HostRoot, paths: Paths) -> None:
    with ExitStack() as undo:
        why, mend = tune(wanting("performance"), ReadOnly(machine.path), paths, undo).degraded
    assert why == (
        "policy 0: scaling_governor is 'powersave', not 'performance', and only root may change it"
    )
    qwend = Path(sys.executable).with_name("qwend")
    assert mend == (
        f"to mend the governor: sudo {qwend} host apply --governor performance; then restart qwend"
    )
    assert list(paths.state.iterdir()) == []


def test_both_wishes_are_in_the_command(machine: HostRoot, paths: Paths) -> None:
    config = wanting("performance", "performance")
    with ExitStack() as undo:
        degraded = tune(config, ReadOnly(machine.path), paths, undo).degraded
    assert degraded[0] == "policy 0: there is no energy_performance_preference"
    assert " --governor performance --energy-preference performance;" in degraded[-1]


def test_the_service_is_told_to_start_the_unit_that_may(machine: HostRoot, paths: Paths) -> None:
    system = replace(paths, mode=Mode.SYSTEM)
    with ExitStack() as undo:
        _, mend = tune(wanting("performance"), ReadOnly(machine.path), system, undo).degraded
    assert mend == "to mend the governor: sudo systemctl restart qwend-host qwend"


def test_what_root_has_set_before_is_no_reason(machine: HostRoot, paths: Paths) -> None:
    machine.at(GOVERNOR).write_text("performance\n")
    with ExitStack() as undo:
        assert tune(wanting("performance"), ReadOnly(machine.path), paths, undo).degraded == ()
    assert governor(machine) == "performance"


def test_a_machine_that_says_nothing_gets_a_plan_all_the_same(tmp_path: Path, paths: Paths) -> None:
    with ExitStack() as undo:
        assert tune(Config(), HostRoot(tmp_path / "empty"), paths, undo).plan.threads >= 1
