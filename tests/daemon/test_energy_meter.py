"""Joules from counters at once, or from watts over time; a name or a reason for either."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.daemon.energy_meter import EnergyMeter
from qwend.host.energy import EnergyCounters
from qwend.host.root import HostRoot
from tests.daemon.fakes import FakeTimers

PACKAGE = "/sys/class/powercap/intel-rapl:0"


@pytest.fixture
def host(tmp_path: Path) -> HostRoot:
    return HostRoot(tmp_path)


@pytest.fixture
def timers() -> FakeTimers:
    return FakeTimers()


def meter_of(host: HostRoot, timers: FakeTimers) -> EnergyMeter:
    return EnergyMeter(EnergyCounters(host, timers.now), timers.clock)


def put_package(host: HostRoot, microjoules: str) -> None:
    place = host.at(PACKAGE)
    place.mkdir(parents=True, exist_ok=True)
    (place / "name").write_text("package-0\n")
    (place / "max_energy_range_uj").write_text("262143328850\n")
    (place / "energy_uj").write_text(microjoules)


def test_a_machine_without_any_measures_nothing(host: HostRoot, timers: FakeTimers) -> None:
    meter = meter_of(host, timers)
    meter.measured(None)
    assert (meter.joules(), meter.source, meter.problem) == (None, "", "")


def test_counters_are_read_when_asked(host: HostRoot, timers: FakeTimers) -> None:
    put_package(host, "1000000")
    meter = meter_of(host, timers)
    assert meter.joules() == 0.0
    put_package(host, "3500000")
    timers.advance(0.1)
    assert meter.joules() == pytest.approx(2.5)
    assert meter.source == PACKAGE


def test_watts_become_joules_with_time(host: HostRoot, timers: FakeTimers) -> None:
    meter = meter_of(host, timers)
    meter.measured(4.0)
    timers.advance(5.0)
    assert meter.joules() == pytest.approx(20.0)
    meter.measured(10.0)
    timers.advance(1.0)
    assert meter.joules() == pytest.approx(30.0)
    assert meter.source == "power meter"


def test_watts_that_nobody_says_any_more_are_nothing(host: HostRoot, timers: FakeTimers) -> None:
    meter = meter_of(host, timers)
    meter.measured(4.0)
    timers.advance(5.0)
    meter.measured(None)
    assert (meter.joules(), meter.source) == (None, "")
    timers.advance(100.0)
    meter.measured(4.0)
    assert meter.joules() == pytest.approx(20.0)


def test_counters_come_before_watts(host: HostRoot, timers: FakeTimers) -> None:
    put_package(host, "1000000")
    meter = meter_of(host, timers)
    meter.measured(50.0)
    timers.advance(5.0)
    assert meter.joules() == 0.0


def test_a_counter_that_cannot_be_read_is_named_unless_watts_are_known(
    host: HostRoot, timers: FakeTimers
) -> None:
    put_package(host, "secret")
    meter = meter_of(host, timers)
    assert meter.joules() is None
    assert PACKAGE in meter.problem
    meter.measured(3.0)
    assert (meter.problem, meter.source) == ("", "power meter")
