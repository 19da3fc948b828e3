"""What the kernel says of the CPUs, on the trees of real machines."""

from __future__ import annotations

import pytest

from qwend.host.cpu import Cpu, Topology, format_cpu_list, parse_cpu_list, read_topology

from . import machines
from .conftest import FakeHost
from .machines import SYS


def test_the_kernels_lists_are_understood() -> None:
    assert parse_cpu_list("0-3,5\n") == {0, 1, 2, 3, 5}
    assert parse_cpu_list("\n") == frozenset()


@pytest.mark.parametrize("text", ["x", "1-", "-1", "3-1", "0-8192", "0-99999999999"])
def test_other_text_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


@pytest.mark.parametrize("text", ["", "0", "0-1", "0-3,5", "1,3,5-8", "0,2"])
def test_a_list_is_written_as_the_kernel_does(text: str) -> None:
    assert format_cpu_list(parse_cpu_list(text)) == text


def test_the_topology_is_read_from_sys(fake: FakeHost) -> None:
    fake.put(
        {
            f"{SYS}/online": "0-2\n",
            f"{SYS}/cpu0/topology/core_cpus_list": "0,3\n",
            f"{SYS}/cpu0/topology/physical_package_id": "1\n",
            f"{SYS}/cpu0/cpu_capacity": "1024\n",
            f"{SYS}/cpu0/cpufreq/cpuinfo_max_freq": "2400000\n",
            f"{SYS}/cpu1/topology/thread_siblings_list": "1-2\n",
            f"{SYS}/cpu1/topology/physical_package_id": "-1\n",
            f"{SYS}/cpu2/topology/thread_siblings_list": "garbage\n",
            f"{SYS}/cpu2/cpu_capacity": "garbage\n",
        }
    )
    assert read_topology(fake.root) == Topology(
        (
            Cpu(0, frozenset({0}), 1024, 2_400_000, 1),
            Cpu(1, frozenset({1, 2})),
            Cpu(2, frozenset({2})),
        )
    )


def test_a_host_that_says_nothing_has_an_empty_topology(fake: FakeHost) -> None:
    assert read_topology(fake.root) == Topology(())


def test_the_clusters_of_an_rk3588_differ_in_capacity(fake: FakeHost) -> None:
    fake.put(machines.rk3588())
    topology = read_topology(fake.root)
    assert [cpu.capacity for cpu in topology.cpus] == [414] * 4 + [1002] * 2 + [1024] * 2


def test_p_and_e_cores_differ_though_the_kernel_shows_one_capacity(fake: FakeHost) -> None:
    fake.put(machines.i5_14600k())
    cpus = read_topology(fake.root).cpus
    # 1024 x 0.787 x 4.1 / 5.4
    assert {cpu.capacity for cpu in cpus[:12]} == {1024}
    assert {cpu.capacity for cpu in cpus[12:]} == {612}
    assert cpus[3].core == {2, 3}
    assert cpus[12].core == {12}


def test_p_and_e_cores_differ_without_any_capacity_or_clock(fake: FakeHost) -> None:
    files = machines.i5_14600k()
    fake.put({k: v for k, v in files.items() if "capacity" not in k and "cpufreq" not in k})
    assert [cpu.capacity for cpu in read_topology(fake.root).cpus] == [1024] * 12 + [600] * 8


def test_what_the_kernel_knows_of_a_hybrid_without_smt_is_believed(fake: FakeHost) -> None:
    known = {n: 1024 if n < 4 else 700 for n in range(8)}
    fake.put(
        {
            f"{SYS}/online": "0-7\n",
            "/sys/devices/cpu_core/cpus": "0-3\n",
            "/sys/devices/cpu_atom/cpus": "4-7\n",
            **machines.capacities(known),
        }
    )
    assert {cpu.number: cpu.capacity for cpu in read_topology(fake.root).cpus} == known


def test_a_hybrid_whose_e_cores_are_offline_is_no_hybrid(fake: FakeHost) -> None:
    fake.put(machines.i5_14600k() | {f"{SYS}/online": "0-11\n"})
    assert {cpu.capacity for cpu in read_topology(fake.root).cpus} == {1024}


def test_small_machines_have_one_kind_of_core(fake: FakeHost) -> None:
    fake.put(machines.raspberry_pi_5())
    assert read_topology(fake.root).cpus[3] == Cpu(3, frozenset({3}), 1024, 2_400_000, 0)


def test_packages_are_told_apart(fake: FakeHost) -> None:
    fake.put(machines.two_sockets())
    assert [cpu.package for cpu in read_topology(fake.root).cpus] == [0, 0, 1, 1, 0, 0, 1, 1]
