"""The pressure is our own group's where we have one, else the machine's."""

from __future__ import annotations

import pytest

from qwend.host.pressure import MACHINE, MemoryPressure, read_pressure

from .conftest import FakeHost

OWN = "/sys/fs/cgroup/qwend.slice/qwend.service"


def psi(some: str, full: str = "0.00") -> str:
    return (
        f"some avg10={some} avg60=99.00 avg300=99.00 total=123\n"
        f"full avg10={full} avg60=99.00 avg300=99.00 total=99\n"
    )


def test_a_kernel_that_does_not_measure_says_nothing(fake: FakeHost) -> None:
    assert read_pressure(fake.root) is None


def test_the_machines_figure_is_the_average_of_ten_seconds(fake: FakeHost) -> None:
    fake.put({MACHINE: psi("12.34", "5.00")})
    assert read_pressure(fake.root) == MemoryPressure(12.34, own=False)


def test_our_own_group_comes_first(fake: FakeHost) -> None:
    fake.put({MACHINE: psi("50.00"), "/proc/self/cgroup": "0::/qwend.slice/qwend.service\n"})
    fake.put({f"{OWN}/memory.max": "max\n", f"{OWN}/memory.pressure": psi("1.50")})
    assert read_pressure(fake.root) == MemoryPressure(1.5, own=True)


def test_the_root_group_is_the_machine(fake: FakeHost) -> None:
    fake.put({MACHINE: psi("3.00"), "/proc/self/cgroup": "0::/\n"})
    fake.put({"/sys/fs/cgroup/memory.pressure": psi("3.00")})
    assert read_pressure(fake.root) == MemoryPressure(3.0, own=False)


def test_a_container_has_a_group_of_its_own_at_the_top(fake: FakeHost) -> None:
    fake.put({MACHINE: psi("3.00"), "/proc/self/cgroup": "0::/\n"})
    fake.put(
        {"/sys/fs/cgroup/memory.pressure": psi("7.00"), "/sys/fs/cgroup/memory.max": "100000\n"}
    )
    assert read_pressure(fake.root) == MemoryPressure(7.0, own=True)


def test_a_group_that_cannot_say_leaves_it_to_the_machine(fake: FakeHost) -> None:
    fake.put({MACHINE: psi("3.00"), "/proc/self/cgroup": "0::/qwend.slice/qwend.service\n"})
    fake.put({f"{OWN}/memory.max": "max\n"})
    assert read_pressure(fake.root) == MemoryPressure(3.0, own=False)


@pytest.mark.parametrize(
    "text", ["", "some\n", "some avg10=lots\n", "full avg10=1.00\n", "some avg60=1.00 x\n\n"]
)
def test_nonsense_is_nothing_known(fake: FakeHost, text: str) -> None:
    fake.put({MACHINE: text})
    assert read_pressure(fake.root) is None
