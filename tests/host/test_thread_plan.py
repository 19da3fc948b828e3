"""Threads go one to a physical core, big cores first, within what the kernel allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.host.cpu import Cpu, Topology, read_topology
from qwend.host.thread_plan import ThreadPlan, plan_threads

from . import machines
from .conftest import FakeHost
from .machines import SYS


def cores(*groups: tuple[int, ...], capacity: dict[int, int] | None = None) -> Topology:
    return Topology(
        tuple(
            Cpu(n, frozenset(group), (capacity or {}).get(n))
            for n, group in sorted((n, group) for group in groups for n in group)
        )
    )


FOUR = cores((0,), (1,), (2,), (3,))
# As Linux numbers four cores with SMT: the second threads come after all the first.
SMT = cores((0, 4), (1, 5), (2, 6), (3, 7))
BIG_LITTLE = cores(
    *((n,) for n in range(8)), capacity={n: 397 if n < 4 else 1024 for n in range(8)}
)
EVERY = frozenset(range(64))


def plan(
    topology: Topology,
    allowed: frozenset[int] = EVERY,
    quota: float | None = None,
    wanted: int = 0,
    affinity: tuple[int, ...] = (),
) -> ThreadPlan:
    return plan_threads(topology, allowed, quota, wanted, affinity)


@pytest.mark.parametrize(
    ("files", "cpus", "why"),
    [
        (machines.raspberry_pi_4(), (0, 1, 2, 3), "one thread on each of the 4 cores"),
        (machines.raspberry_pi_5(), (0, 1, 2, 3), "one thread on each of the 4 cores"),
        (
            machines.rk3588(),
            (6, 7, 4, 5),
            "one thread on each of the 4 bigger cores; the 4 smaller would hold them up",
        ),
        (machines.n100(), (0, 1, 2, 3), "one thread on each of the 4 cores"),
        (
            machines.i5_14600k(),
            (0, 2, 4, 6, 8, 10),
            "one thread on each of the 6 bigger cores; the 8 smaller would hold them up",
        ),
        (
            machines.i9_13900kf(),
            (8, 10, 0, 2, 4, 6, 12, 14),
            "one thread on each of the 8 bigger cores; the 16 smaller would hold them up",
        ),
        (machines.virtual_machine(), (0, 1), "one thread on each of the 2 cores"),
        (machines.two_sockets(), (0, 1, 2, 3), "one thread on each of the 4 cores"),
    ],
    ids=["pi-4", "pi-5", "rk3588", "n100", "i5-14600k", "i9-13900kf", "vm", "two-sockets"],
)
def test_real_machines(
    fake: FakeHost, files: machines.Files, cpus: tuple[int, ...], why: str
) -> None:
    fake.put(files)
    result = plan(read_topology(fake.root))
    assert result == ThreadPlan(len(cpus), cpus, ())
    assert result.why == why


def test_a_machine_without_cpufreq_is_planned_by_its_cores(fake: FakeHost) -> None:
    fake.put({k: v for k, v in machines.rk3588().items() if "cpufreq" not in k})
    assert plan(read_topology(fake.root)).cpus == (6, 7, 4, 5)
    fake.put({f"{SYS}/online": "0-3\n"})
    assert plan(read_topology(fake.root)).threads == 4


def test_what_is_left_of_an_rk3588_without_its_big_cores(fake: FakeHost) -> None:
    fake.put(machines.rk3588() | {f"{SYS}/online": "0-3,6\n"})
    # Five at the pace of a little one do more than the one big one.
    assert plan(read_topology(fake.root)).cpus == (6, 0, 1, 2, 3)
    fake.put({f"{SYS}/online": "0-3\n"})
    assert plan(read_topology(fake.root)).cpus == (0, 1, 2, 3)


def test_few_threads_stay_on_one_socket(fake: FakeHost) -> None:
    fake.put(machines.two_sockets() | {f"{SYS}/online": "1-7\n"})
    assert plan(read_topology(fake.root), wanted=2).cpus == (1, 4)


def test_siblings_of_a_core_get_one_thread() -> None:
    assert plan(SMT) == ThreadPlan(4, (0, 1, 2, 3), ())


def test_the_sibling_that_is_allowed_is_used() -> None:
    assert plan(SMT, frozenset({1, 4, 5})) == ThreadPlan(2, (1, 4), ())


def test_little_cores_are_used_where_big_ones_are_few_and_they_gain_clearly() -> None:
    one_big = {0: 300, 1: 300, 2: 700, 3: 700, 4: 700, 5: 1024}
    topology = cores(*((n,) for n in range(6)), capacity=one_big)
    assert plan(topology) == ThreadPlan(4, (5, 2, 3, 4), ())


def test_little_cores_that_gain_little_are_left() -> None:
    topology = cores((0,), (1,), (2,), capacity={0: 750, 1: 1024, 2: 1024})
    assert plan(topology) == ThreadPlan(2, (1, 2), ())


def test_a_kind_that_is_not_worth_it_does_not_hide_a_worthy_one_behind_it() -> None:
    capacity = {0: 1024, 1: 600} | dict.fromkeys(range(2, 8), 400)
    topology = cores(*((n,) for n in range(8)), capacity=capacity)
    assert plan(topology).threads == 8


def test_favoured_cores_are_no_kind_of_their_own() -> None:
    capacity = dict.fromkeys(range(4), 1024) | dict.fromkeys(range(4, 8), 950)
    topology = cores(*((n,) for n in range(8)), capacity=capacity)
    assert plan(topology).threads == 8


def test_faster_clocks_come_first() -> None:
    topology = Topology(tuple(Cpu(n, frozenset({n}), None, 3000 + n) for n in range(3)))
    assert plan(topology, wanted=2).cpus == (2, 1)


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.0, 1), (2.9, 2), (3.0, 3)])
def test_a_quota_leaves_whole_cpus_and_at_least_one(quota: float, threads: int) -> None:
    result = plan(FOUR, quota=quota)
    assert (result.threads, len(result.cpus)) == (threads, threads)
    assert f"the control group allows {quota:g} CPUs" in result.reasons[0]
    assert result.why == f"the control group allows {quota:g} CPUs"


def test_a_quota_that_cuts_nothing_is_no_reason() -> None:
    assert plan(FOUR, quota=4.0).reasons == ()


def test_what_the_operator_wants_wins_over_cores_and_quota() -> None:
    result = plan(SMT, wanted=6)
    assert result == ThreadPlan(6, (0, 1, 2, 3, 4, 5), ())
    assert result.why == "as many as [engine] threads asks for"
    result = plan(FOUR, quota=2.0, wanted=3)
    assert result.threads == 3
    assert "3 threads are more than the 2 CPUs the control group allows" in result.reasons[0]


def test_more_threads_than_cpus_are_clipped_with_a_reason() -> None:
    result = plan(FOUR, frozenset({0, 2}), wanted=8)
    assert (result.threads, result.cpus) == (2, (0, 2))
    assert result.reasons == ("8 threads were asked for, but only 2 CPUs are usable",)


def test_a_plan_says_that_the_process_may_not_use_all_cpus() -> None:
    assert plan(FOUR, frozenset({0, 2, 3})).why == (
        "one thread on each of the 3 cores; this process may use CPUs 0,2-3 only"
    )


def test_affinity_names_the_cores_and_all_of_them_are_used() -> None:
    result = plan(FOUR, affinity=(3, 1))
    assert result == ThreadPlan(2, (1, 3), ())
    assert result.why == "one thread on each of the 2 cores, on the CPUs of [host] affinity"
    assert plan(BIG_LITTLE, affinity=tuple(range(8))).cpus == (4, 5, 6, 7, 0, 1, 2, 3)


@pytest.mark.row("H1")
def test_affinity_that_is_partly_impossible_runs_on_the_rest_and_says_so() -> None:
    result = plan(FOUR, frozenset({0, 1}), affinity=(1, 3, 63))
    assert (result.threads, result.cpus) == (1, (1,))
    assert result.reasons == ("CPUs 3, 63 of [host] affinity are offline or not allowed here",)


@pytest.mark.row("H1")
def test_affinity_that_is_wholly_impossible_runs_on_all_that_are_allowed() -> None:
    result = plan(FOUR, frozenset({0, 1}), affinity=(63,))
    assert result.cpus == (0, 1)
    assert len(result.reasons) == 2


def test_an_offline_cpu_is_not_used_though_it_is_allowed() -> None:
    assert plan(cores((0,), (2,)), frozenset({0, 1, 2})).cpus == (0, 2)


def test_without_a_topology_each_allowed_cpu_counts_as_a_core() -> None:
    assert plan(Topology(()), frozenset({3, 5})) == ThreadPlan(2, (3, 5), ())


def test_without_any_cpu_one_thread_runs_unpinned() -> None:
    result = plan(FOUR, frozenset())
    assert (result.threads, result.cpus) == (1, ())
    assert result.reasons


@given(
    groups=st.lists(st.integers(1, 3), max_size=6),
    capacities=st.none() | st.lists(st.integers(1, 1024), min_size=18, max_size=18),
    allowed=st.frozensets(st.integers(0, 20)),
    quota=st.none() | st.floats(0.01, 64),
    wanted=st.integers(0, 40),
    affinity=st.lists(st.integers(0, 30), max_size=5).map(tuple),
)
def test_any_plan_keeps_to_the_allowed_cpus_each_once(
    groups: list[int],
    capacities: list[int] | None,
    allowed: frozenset[int],
    quota: float | None,
    wanted: int,
    affinity: tuple[int, ...],
) -> None:
    numbers = iter(range(18))
    members = [tuple(next(numbers) for _ in range(size)) for size in groups]
    topology = cores(*members, capacity=dict(enumerate(capacities)) if capacities else None)
    result = plan_threads(topology, allowed, quota, wanted, affinity)
    online = {cpu.number for cpu in topology.cpus} or allowed
    assert result.threads >= 1
    assert result.why
    assert len(set(result.cpus)) == len(result.cpus)
    assert set(result.cpus) <= allowed & online
    assert len(result.cpus) == (result.threads if allowed & online else 0)
