"""Policies are read as the kernel shows them, and a write counts if it reads back."""

from __future__ import annotations

import os

import pytest

from qwend.errors import HostError
from qwend.host.cpufreq import Knob, may_write, read_policies, write_knob
from qwend.host.root import HostRoot

from . import machines
from .conftest import FakeHost

POLICY0 = f"{machines.SYS}/cpufreq/policy0"


def test_a_policy_is_the_cpus_that_share_a_clock(fake: FakeHost) -> None:
    fake.put(machines.rk3588())
    policies = read_policies(fake.root)
    assert [(p.name, p.cpus) for p in policies] == [
        ("policy0", (0, 1, 2, 3)),
        ("policy4", (4, 5)),
        ("policy6", (6, 7)),
    ]
    assert policies[1].now == {Knob.GOVERNOR: "schedutil"}
    assert "performance" in policies[1].offered[Knob.GOVERNOR]


def test_an_intel_cpu_has_an_energy_preference_too(fake: FakeHost) -> None:
    fake.put(machines.n100())
    policy = read_policies(fake.root)[3]
    assert policy.now == {Knob.GOVERNOR: "powersave", Knob.PREFERENCE: "balance_performance"}
    assert policy.offered[Knob.GOVERNOR] == ("performance", "powersave")
    assert "balance_power" in policy.offered[Knob.PREFERENCE]


def test_twenty_policies_come_in_the_order_of_their_numbers(fake: FakeHost) -> None:
    fake.put(machines.i5_14600k())
    assert [p.name for p in read_policies(fake.root)] == [f"policy{n}" for n in range(20)]


def test_a_machine_without_scaling_has_no_policies(fake: FakeHost) -> None:
    fake.put(machines.virtual_machine())
    assert read_policies(fake.root) == ()


def test_a_write_that_does_not_read_back_is_refused(fake: FakeHost) -> None:
    fake.put(machines.raspberry_pi_4())

    class Stubborn(HostRoot):
        def write_text(self, path: str, text: str) -> None:
            return

    with pytest.raises(HostError, match="it reads back 'ondemand'"):
        write_knob(Stubborn(fake.root.path), "policy0", Knob.GOVERNOR, "performance")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_without_the_right_to_write_it_says_so(fake: FakeHost) -> None:
    fake.put(machines.raspberry_pi_4())
    assert may_write(fake.root, ["policy0"], Knob.GOVERNOR)
    fake.root.at(f"{POLICY0}/scaling_governor").chmod(0o444)
    assert not may_write(fake.root, ["policy0"], Knob.GOVERNOR)


def test_what_is_not_there_cannot_be_written(fake: FakeHost) -> None:
    fake.put(machines.raspberry_pi_4())
    assert may_write(fake.root, ["policy0"], Knob.GOVERNOR)
    assert not may_write(fake.root, ["policy0"], Knob.PREFERENCE)
