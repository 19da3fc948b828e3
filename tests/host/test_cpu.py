"""Threads go one to a physical core, big cores first, within what the kernel allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.host.cpu import Cpu, ThreadPlan, Topology, parse_cpu_list, plan_threads, read_topology

from .conftest import FakeHost

SYS = "/sys/devices/system/cpu"


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
RK3588 = cores(*((n,) for n in range(8)), capacity={n: 530 if n < 4 else 1024 for n in range(8)})
EVERY = frozenset(range(64))


def plan(
    topology: Topology,
    allowed: frozenset[int] = EVERY,
    quota: float | None = None,
    wanted: int = 0,
    affinity: tuple[int, ...] = (),
) -> ThreadPlan:
    return plan_threads(topology, allowed, quota, wanted, affinity)


def test_every_core_gets_a_thread() -> None:
    assert plan(FOUR) == ThreadPlan(4, (0, 1, 2, 3), ())


def test_siblings_of_a_core_get_one_thread() -> None:
    assert plan(SMT) == ThreadPlan(4, (0, 1, 2, 3), ())


def test_the_sibling_that_is_allowed_is_used() -> None:
    assert plan(SMT, frozenset({1, 4, 5})) == ThreadPlan(2, (1, 4), ())


def test_big_cores_are_used_and_little_ones_left() -> None:
    assert plan(RK3588) == ThreadPlan(4, (4, 5, 6, 7), ())


def test_little_cores_are_used_where_they_gain_clearly() -> None:
    one_big = {0: 300, 1: 300, 2: 700, 3: 700, 4: 700, 5: 1024}
    topology = cores(*((n,) for n in range(6)), capacity=one_big)
    assert plan(topology) == ThreadPlan(4, (5, 2, 3, 4), ())


def test_cores_of_one_kind_are_used_all_or_none() -> None:
    topology = cores(*((n,) for n in range(11)), capacity=dict.fromkeys(range(11), 1024))
    assert plan(topology).threads == 11


def test_faster_clocks_come_first() -> None:
    topology = Topology(tuple(Cpu(n, frozenset({n}), None, 3000 + n) for n in range(3)))
    assert plan(topology, wanted=2).cpus == (2, 1)


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.0, 1), (2.9, 2), (3.0, 3)])
def test_a_quota_leaves_whole_cpus_and_at_least_one(quota: float, threads: int) -> None:
    result = plan(FOUR, quota=quota)
    assert (result.threads, len(result.cpus)) == (threads, threads)
    assert f"the control group allows {quota:g} CPUs" in result.reasons[0]


def test_a_quota_that_cuts_nothing_is_no_reason() -> None:
    assert plan(FOUR, quota=4.0).reasons == ()


def test_what_the_operator_wants_wins_over_cores_and_quota() -> None:
    assert plan(SMT, wanted=6) == ThreadPlan(6, (0, 1, 2, 3, 4, 5), ())
    result = plan(FOUR, quota=2.0, wanted=3)
    assert result.threads == 3
    assert "3 threads are more than the 2 CPUs the control group allows" in result.reasons[0]


def test_more_threads_than_cpus_are_clipped_with_a_reason() -> None:
    result = plan(FOUR, frozenset({0, 2}), wanted=8)
    assert (result.threads, result.cpus) == (2, (0, 2))
    assert result.reasons == ("8 threads were asked for, but only 2 CPUs are usable",)


def test_affinity_names_the_cores_and_all_of_them_are_used() -> None:
    assert plan(FOUR, affinity=(3, 1)) == ThreadPlan(2, (1, 3), ())
    assert plan(RK3588, affinity=tuple(range(8))) == ThreadPlan(8, (4, 5, 6, 7, 0, 1, 2, 3), ())


def test_affinity_that_is_partly_impossible_runs_on_the_rest_and_says_so() -> None:
    result = plan(FOUR, frozenset({0, 1}), affinity=(1, 3, 63))
    assert (result.threads, result.cpus) == (1, (1,))
    assert result.reasons == ("CPUs 3, 63 of [host] affinity are offline or not allowed here",)


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
    assert len(set(result.cpus)) == len(result.cpus)
    assert set(result.cpus) <= allowed & online
    assert len(result.cpus) == (result.threads if allowed & online else 0)


def test_the_kernels_lists_are_understood() -> None:
    assert parse_cpu_list("0-3,5\n") == {0, 1, 2, 3, 5}
    assert parse_cpu_list("\n") == frozenset()


@pytest.mark.parametrize("text", ["x", "1-", "-1", "3-1", "0-8192", "0-99999999999"])
def test_other_text_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


def test_the_topology_is_read_from_sys(fake: FakeHost) -> None:
    fake.put(
        {
            f"{SYS}/online": "0-2\n",
            f"{SYS}/cpu0/topology/core_cpus_list": "0,3\n",
            f"{SYS}/cpu0/cpu_capacity": "1024\n",
            f"{SYS}/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
            f"{SYS}/cpu1/topology/thread_siblings_list": "1-2\n",
            f"{SYS}/cpu2/topology/thread_siblings_list": "garbage\n",
            f"{SYS}/cpu2/cpu_capacity": "garbage\n",
        }
    )
    assert read_topology(fake.root) == Topology(
        (
            Cpu(0, frozenset({0}), 1024, 2_400_000),
            Cpu(1, frozenset({1, 2})),
            Cpu(2, frozenset({2})),
        )
    )


def test_a_host_that_says_nothing_has_an_empty_topology(fake: FakeHost) -> None:
    assert read_topology(fake.root) == Topology(())
