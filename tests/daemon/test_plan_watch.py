"""The plan of the threads follows the CPUs that are left, on trees of real machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.config import Config, EngineConfig, HostConfig
from qwend.daemon.plan_watch import LOOK_S, PlanWatch, reasons_now, threads_refused
from qwend.host.root import HostRoot
from qwend.host.thread_plan import ThreadPlan
from tests.daemon.fakes import FakeTimers
from tests.host import machines
from tests.host.machines import SYS

CG = "/sys/fs/cgroup"


class Machine:
    """Files, and the CPUs that sched_getaffinity(2) would name."""

    def __init__(self, path: Path, files: machines.Files, allowed: set[int]) -> None:
        self.host = HostRoot(path)
        self.cpus = allowed
        self.put(files)

    def put(self, files: machines.Files) -> None:
        for name, text in files.items():
            place = self.host.at(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def allowed(self) -> frozenset[int]:
        return frozenset(self.cpus)

    def watch(self, config: Config | None = None) -> PlanWatch:
        return PlanWatch(config or Config(), self.host, self.allowed)


@pytest.fixture
def board(tmp_path: Path) -> Machine:
    return Machine(tmp_path, machines.raspberry_pi_4(), {0, 1, 2, 3})


def test_as_long_as_nothing_changes_the_plan_stays(board: Machine) -> None:
    watch = board.watch()
    assert watch.plan == ThreadPlan(4, (0, 1, 2, 3), ())
    assert not watch.look()


def test_a_cpu_that_goes_offline_leaves_the_plan_and_comes_back_into_it(board: Machine) -> None:
    watch = board.watch()
    board.put({f"{SYS}/online": "0,2-3\n"})
    board.cpus = {0, 2, 3}
    assert watch.look()
    assert watch.plan == ThreadPlan(3, (0, 2, 3), ())
    assert not watch.look()
    board.put({f"{SYS}/online": "0-3\n"})
    board.cpus = {0, 1, 2, 3}
    assert watch.look()
    assert watch.plan.cpus == (0, 1, 2, 3)


def test_the_big_cores_of_an_rk3588_going_offline_brings_in_the_little_ones(
    tmp_path: Path,
) -> None:
    board = Machine(tmp_path, machines.rk3588(), set(range(8)))
    watch = board.watch()
    assert set(watch.plan.cpus) == {4, 5, 6, 7}
    board.put({f"{SYS}/online": "0-3\n"})
    board.cpus = {0, 1, 2, 3}
    assert watch.look()
    assert watch.plan.cpus == (0, 1, 2, 3)


def test_an_affinity_that_is_taken_away_is_followed(board: Machine) -> None:
    watch = board.watch()
    board.cpus = {1}
    assert watch.look()
    assert watch.plan == ThreadPlan(1, (1,), ())


def test_a_control_group_that_is_changed_is_followed(board: Machine) -> None:
    board.put({"/proc/self/cgroup": "0::/qwend.slice\n"})
    watch = board.watch()
    board.put({f"{CG}/qwend.slice/cpuset.cpus.effective": "2-3\n"})
    assert watch.look()
    assert watch.plan.cpus == (2, 3)
    board.put({f"{CG}/qwend.slice/cpu.max": "100000 100000\n"})
    assert watch.look()
    assert watch.plan.threads == 1
    assert "the control group allows 1 CPUs" in watch.plan.reasons[0]


def test_a_control_group_that_contradicts_the_kernel_is_not_believed(board: Machine) -> None:
    board.put({"/proc/self/cgroup": "0::/\n", f"{CG}/cpuset.cpus.effective": "8-9\n"})
    assert board.watch().plan.cpus == (0, 1, 2, 3)


def test_a_change_that_leaves_the_plan_as_it_is_is_none(board: Machine) -> None:
    watch = board.watch(Config(host=HostConfig(affinity=(0, 1))))
    board.put({f"{SYS}/online": "0-2\n"})
    assert not watch.look()


def test_fewer_cpus_than_the_operator_asks_threads_for_is_a_reason(board: Machine) -> None:
    watch = board.watch(Config(engine=EngineConfig(threads=4)))
    assert not watch.plan.reasons
    board.put({f"{SYS}/online": "0-1\n"})
    assert watch.look()
    assert watch.plan.reasons == ("4 threads were asked for, but only 2 CPUs are usable",)


def test_it_looks_again_and_again_until_it_is_stopped(board: Machine) -> None:
    timers = FakeTimers()
    seen: list[ThreadPlan] = []
    watch = board.watch()
    watch.start(timers.call_later, seen.append)
    timers.advance(LOOK_S)
    assert seen == []
    board.put({f"{SYS}/online": "0-2\n"})
    timers.advance(LOOK_S)
    assert [plan.threads for plan in seen] == [3]
    watch.stop()
    board.put({f"{SYS}/online": "0-3\n"})
    timers.advance(LOOK_S)
    assert len(seen) == 1


@pytest.mark.parametrize("cpus", [(0, 1), (0,), (1, 0)])
def test_fewer_cpus_than_the_engine_was_started_for_are_no_reason(cpus: tuple[int, ...]) -> None:
    assert reasons_now(ThreadPlan(len(cpus), cpus, ()), ThreadPlan(2, (0, 1), ())) == ()


def test_cpus_that_the_engine_was_not_started_for_are_a_reason_beside_the_others() -> None:
    plan = ThreadPlan(4, (0, 1, 2, 3), ("another",))
    assert reasons_now(plan, ThreadPlan(2, (1, 2), ())) == (
        "another",
        "the engine was started for CPUs 1-2 and would be quicker on 0-3: restart qwend",
    )


def test_an_engine_that_is_not_pinned_uses_what_there_is() -> None:
    assert reasons_now(ThreadPlan(2, (0, 1), ()), ThreadPlan(1, (), ())) == ()


@pytest.mark.row("D6")
def test_threads_that_could_not_be_started_are_a_reason_with_what_to_raise() -> None:
    (reason,) = threads_refused({"threads": 1}, ThreadPlan(4, (0, 1, 2, 3), ()))
    assert reason.startswith("1 of 4 threads could be started")
    assert "TasksMax=" in reason


@pytest.mark.parametrize("description", [{}, {"threads": 0}, {"threads": 4}])
def test_all_threads_or_an_engine_without_any_are_no_reason(description: dict[str, int]) -> None:
    assert threads_refused(description, ThreadPlan(4, (0, 1, 2, 3), ())) == ()
