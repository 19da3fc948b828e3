"""What a look at the machine leads to: limits for the engine, reasons for the state; and back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from qwend.daemon import host_watch
from qwend.daemon.host_watch import HostWatch
from qwend.daemon.state import Condition, DaemonState
from qwend.daemon.thread_limit import ThreadLimit
from qwend.engine import hop
from qwend.host.power_supply import Power
from qwend.host.pressure import MemoryPressure
from qwend.host.reading import Reading
from qwend.host.root import HostRoot
from qwend.host.thermal import Heat
from qwend.host.throttling import Flag, Throttling
from tests.daemon.fakes import FakeEngine, FakeTimers

MIB = 2**20
COOL = Reading(heat=Heat("cpu-thermal", 50.0, 80.0, from_trip=True))
HOT = Reading(heat=Heat("cpu-thermal", 78.4, 80.0, from_trip=True))
SHORT = Reading(pressure=MemoryPressure(40.0, own=True))
CALM = Reading(pressure=MemoryPressure(0.0, own=True))
ON_BATTERY = Reading(power=Power(on_battery=True, percent=40.0))


class Box:
    """A watch over a machine that shows what it is told to, and an engine."""

    def __init__(self, path: Path, *, saver: bool = False) -> None:
        self.timers = FakeTimers()
        self.state = DaemonState()
        self.state.move(Condition.READY, "")
        self.threads = ThreadLimit()
        self.engine = FakeEngine()
        self.watch = HostWatch(
            HostRoot(path),
            self.state,
            self.threads,
            self.timers.clock,
            planned=lambda: 4,
            saver=lambda: saver,
            prefix_bytes=256 * MIB,
        )
        self.attach(self.engine)

    def attach(self, engine: FakeEngine) -> None:
        self.threads.attach(engine)
        self.watch.attach(engine)

    def look(self, reading: Reading, prefix_bytes: int = 0, after_s: float = 5.0) -> None:
        self.timers.advance(after_s)
        self.watch.consider(reading, prefix_bytes)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_machine_that_shows_nothing_changes_nothing(box: Box) -> None:
    box.look(Reading())
    assert (box.engine.messages, box.state.reasons, box.state.word) == ([], [], "ready")
    memory = {"prefix_limit_bytes": 256 * MIB, "short": False}
    assert box.watch.status() == {"memory": memory}
    assert box.watch.ledger.joules_per_token is None


def test_the_temperature_is_that_of_the_last_look(box: Box) -> None:
    assert box.watch.temperature_c is None
    box.look(HOT)
    assert box.watch.temperature_c == 78.4


def test_heat_takes_threads_says_so_and_gives_them_back(box: Box) -> None:
    box.look(HOT)
    assert box.engine.messages == [hop.limit(3)]
    assert box.state.reasons == [
        "heat: 3 of 4 threads compute, for the processor is at 78 °C and throttles at 80 °C"
    ]
    assert box.watch.status()["heat"] == {
        "zone": "cpu-thermal",
        "temperature_c": 78.4,
        "ceiling_c": 80.0,
        "threads": 3,
    }
    box.look(COOL, after_s=1000.0)
    assert box.engine.messages == [hop.limit(3), hop.limit(0)]
    assert (box.state.reasons, box.state.word) == ([], "ready")
    assert box.watch.status()["heat"]["threads"] == 0


def test_a_battery_changes_nothing_unless_it_is_to_be_saved(box: Box, tmp_path: Path) -> None:
    box.look(ON_BATTERY)
    assert (box.engine.messages, box.state.word) == ([], "ready")
    power = {"on_battery": True, "percent": 40.0, "saver": False}
    assert box.watch.status()["power"] == power


def test_a_battery_that_is_to_be_saved_takes_half_of_the_threads(tmp_path: Path) -> None:
    box = Box(tmp_path, saver=True)
    box.look(ON_BATTERY)
    assert box.engine.messages == [hop.limit(2)]
    assert box.watch.status()["power"]["saver"] is True
    # It is as its owner wants it.
    assert box.state.word == "ready"
    box.look(Reading(power=Power(on_battery=None)))
    assert box.engine.messages == [hop.limit(2), hop.limit(0)]


def test_the_firmwares_flags_are_reasons_while_they_are_set(box: Box) -> None:
    throttled = Throttling(now=frozenset({Flag.THROTTLED}), occurred=frozenset())
    box.look(Reading(throttling=throttled))
    assert box.state.reasons == ["the firmware throttles the processor"]
    assert box.watch.status()["throttling"]["now"] == ["throttled"]
    box.look(Reading(throttling=Throttling(frozenset(), frozenset())))
    assert box.state.reasons == []


def test_short_memory_shrinks_the_prefixes_until_it_is_over(box: Box) -> None:
    box.look(SHORT, prefix_bytes=100 * MIB)
    assert box.engine.messages == [hop.shrink(50 * MIB)]
    assert box.state.reasons == [
        "memory is short on this machine: idle prefixes may take 50 MiB instead of 256"
    ]
    assert box.watch.status()["memory"] == {
        "pressure_percent": 40.0,
        "prefix_limit_bytes": 50 * MIB,
        "short": True,
    }
    box.look(CALM, prefix_bytes=50 * MIB, after_s=1000.0)
    assert box.engine.messages == [hop.shrink(50 * MIB), hop.shrink(256 * MIB)]
    assert box.state.reasons == []


def test_a_new_engine_hears_what_holds(box: Box) -> None:
    box.look(replace(HOT, pressure=SHORT.pressure), prefix_bytes=100 * MIB)
    second = FakeEngine()
    box.attach(second)
    assert second.messages == [hop.limit(3), hop.shrink(50 * MIB)]


def test_joules_come_from_the_watts_of_the_readings(box: Box) -> None:
    box.look(Reading(watts=5.0))
    box.watch.ledger.started(1)
    box.watch.ledger.produced(10)
    box.timers.advance(4.0)
    assert box.watch.ledger.ended(1, 10) == pytest.approx(20.0)
    assert box.watch.status()["energy"] == {"source": "power meter", "joules_per_token": 2.0}


def test_a_meter_that_only_root_may_read_is_named_and_no_degradation(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    (zone / "energy_uj").mkdir(parents=True)  # not even root can read this
    (zone / "name").write_text("package-0\n")
    box = Box(tmp_path)
    box.look(Reading())
    assert "energy_uj" in box.watch.status()["energy"]["problem"]
    assert box.state.word == "ready"


def test_the_status_can_be_sent(box: Box) -> None:
    everything = replace(
        HOT,
        power=ON_BATTERY.power,
        pressure=SHORT.pressure,
        throttling=Throttling(frozenset(Flag), frozenset(Flag)),
        before_oom_bytes=10 * MIB,
        total_bytes=1024 * MIB,
        watts=5.0,
    )
    box.look(everything)
    status = box.watch.status()
    assert set(status) == {"throttling", "heat", "power", "energy", "memory"}
    assert msgpack.unpackb(msgpack.packb(status)) == status


def test_it_looks_again_and_again_at_a_real_tree(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: files, a thread that reads them, a limit for the engine; and back."""
    monkeypatch.setattr(host_watch, "LOOK_S", 0.0)
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("79000\n")

    async def until(condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0)

    async def scenario() -> None:
        watching = asyncio.create_task(box.watch.run(lambda: 0))
        await until(lambda: box.threads.threads == 3)
        box.timers.advance(1000.0)
        (zone / "temp").write_text("40000\n")
        await until(lambda: box.threads.threads == 0)
        watching.cancel()

    asyncio.run(scenario())


def test_a_look_that_fails_is_followed_by_another(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_watch, "LOOK_S", 0.0)
    failures = [OSError("gone"), RuntimeError("can't start new thread")]

    def read(host: HostRoot) -> Reading:
        if failures:
            raise failures.pop()
        return HOT

    monkeypatch.setattr(host_watch, "read_machine", read)

    async def scenario() -> None:
        watching = asyncio.create_task(box.watch.run(lambda: 0))
        async with asyncio.timeout(20):
            while not box.threads.threads:
                await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(scenario())
