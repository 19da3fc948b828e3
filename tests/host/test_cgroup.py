"""The tightest limit of any control group above the process counts."""

from __future__ import annotations

import pytest

from qwend.host.cgroup import (
    allowed_cpus,
    cpu_quota,
    memory_available,
    memory_before_oom,
    own_directory,
)

from .conftest import FakeHost

CG = "/sys/fs/cgroup"
SELF = "/proc/self/cgroup"


def test_without_control_groups_there_is_no_limit(fake: FakeHost) -> None:
    assert allowed_cpus(fake.root) is None
    assert cpu_quota(fake.root) is None
    assert memory_available(fake.root) is None


def test_v2_takes_the_tightest_of_all_ancestors(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "0::/qwend.slice/qwend.service\n",
            f"{CG}/qwend.slice/cpu.max": "150000 100000\n",
            f"{CG}/qwend.slice/qwend.service/cpu.max": "max 100000\n",
        }
    )
    assert cpu_quota(fake.root) == 1.5
    fake.put({f"{CG}/qwend.slice/qwend.service/cpu.max": "50000 100000\n"})
    assert cpu_quota(fake.root) == 0.5


def test_another_process_can_be_asked_for(fake: FakeHost) -> None:
    fake.put({"/proc/7/cgroup": "0::/a\n", f"{CG}/a/cpu.max": "200000 100000"})
    assert cpu_quota(fake.root, "7") == 2.0


def test_v1_reads_the_cfs_quota(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "3:cpuset:/\n4:cpu,cpuacct:/a/b\n1:name=systemd:/a/b\n",
            f"{CG}/cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
            f"{CG}/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            f"{CG}/cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n",
            f"{CG}/cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu_quota(fake.root) == 2.5


def test_a_container_without_its_own_namespace_sees_its_group_as_the_mount(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "4:cpu,cpuacct:/docker/abc\n",
            f"{CG}/cpu/cpu.cfs_quota_us": "100000\n",
            f"{CG}/cpu/cpu.cfs_period_us": "100000\n",
        }
    )
    assert cpu_quota(fake.root) == 1.0


def test_a_group_outside_our_namespace_is_not_searched_upwards(fake: FakeHost) -> None:
    fake.put({SELF: "0::/../x\n", f"{CG}/cpu.max": "100000 100000", "/sys/fs/x/cpu.max": "1 1000"})
    assert cpu_quota(fake.root) == 1.0


@pytest.mark.parametrize("text", ["", "garbage", "1 0", "0 100000", "5", "a b", "1 2 3"])
def test_nonsense_is_no_limit(fake: FakeHost, text: str) -> None:
    fake.put({SELF: "0::/\nnonsense\n", f"{CG}/cpu.max": text})
    assert cpu_quota(fake.root) is None


def test_v2_cpus_are_those_of_the_nearest_group_that_has_a_cpuset(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "0::/qwend.slice/qwend.service\n",
            f"{CG}/cpuset.cpus.effective": "0-7\n",
            f"{CG}/qwend.slice/cpuset.cpus.effective": "0-3\n",
        }
    )
    assert allowed_cpus(fake.root) == frozenset({0, 1, 2, 3})
    fake.put({f"{CG}/qwend.slice/qwend.service/cpuset.cpus.effective": "2-3\n"})
    assert allowed_cpus(fake.root) == frozenset({2, 3})


def test_v1_cpus_are_those_of_the_cpuset_hierarchy(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "3:cpuset:/a\n4:cpu,cpuacct:/b\n0::/\n",
            f"{CG}/cpuset/a/cpuset.effective_cpus": "1\n",
            f"{CG}/cpuset/cpuset.effective_cpus": "0-1\n",
        }
    )
    assert allowed_cpus(fake.root) == frozenset({1})


@pytest.mark.parametrize("text", ["", "\n", "garbage", "3-1"])
def test_a_cpuset_that_says_nothing_is_no_limit(fake: FakeHost, text: str) -> None:
    fake.put({SELF: "0::/\n", f"{CG}/cpuset.cpus.effective": text})
    assert allowed_cpus(fake.root) is None


def test_memory_is_the_limit_less_what_cannot_be_dropped(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "0::/a/b\n",
            f"{CG}/a/memory.max": "1000000\n",
            f"{CG}/a/memory.current": "700000\n",
            f"{CG}/a/memory.stat": "anon 400000\ninactive_file 200000\n",
            f"{CG}/a/b/memory.max": "max\n",
            f"{CG}/a/b/memory.current": "700000\n",
        }
    )
    assert memory_available(fake.root) == 500_000


def test_v1_memory_without_a_limit_is_none(fake: FakeHost) -> None:
    where = f"{CG}/memory/a"
    fake.put(
        {
            SELF: "4:memory:/a\n",
            f"{where}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{where}/memory.usage_in_bytes": "5000\n",
        }
    )
    assert memory_available(fake.root) is None
    fake.put({f"{where}/memory.limit_in_bytes": "4096\n"})
    assert memory_available(fake.root) == 0


def test_a_limit_that_slows_down_counts_as_one_that_kills_does(fake: FakeHost) -> None:
    fake.put(
        {
            SELF: "0::/a\n",
            f"{CG}/a/memory.max": "max\n",
            f"{CG}/a/memory.high": "900000\n",
            f"{CG}/a/memory.current": "700000\n",
        }
    )
    assert memory_available(fake.root) == 200_000
    assert memory_before_oom(fake.root) is None
    fake.put({f"{CG}/a/memory.max": "800000\n"})
    assert memory_available(fake.root) == 100_000
    assert memory_before_oom(fake.root) == 100_000


def test_v1_too_drops_all_cache_of_files_before_it_kills(fake: FakeHost) -> None:
    here = f"{CG}/memory/a"
    fake.put(
        {
            SELF: "4:memory:/a\n",
            f"{here}/memory.limit_in_bytes": "1000000\n",
            f"{here}/memory.usage_in_bytes": "900000\n",
            f"{here}/memory.stat": "total_inactive_file 100000\ntotal_active_file 300000\n",
        }
    )
    assert memory_available(fake.root) == 200_000
    assert memory_before_oom(fake.root) == 500_000


def test_our_own_group_is_the_innermost_that_has_limits(fake: FakeHost) -> None:
    assert own_directory(fake.root, "memory") is None
    fake.put({SELF: "4:memory:/v1\n0::/a/b\n", f"{CG}/memory/v1/memory.max": "no v2\n"})
    assert own_directory(fake.root, "memory") is None
    fake.put({f"{CG}/a/memory.max": "max\n"})
    assert own_directory(fake.root, "memory") == f"{CG}/a"
    fake.put({f"{CG}/a/b/memory.max": "max\n"})
    assert own_directory(fake.root, "memory") == f"{CG}/a/b"
