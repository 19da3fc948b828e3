"""The machine on one line: only what it shows, and only what is worth knowing."""

from __future__ import annotations

from typing import Any

import pytest

from qwend.cli.machine import machine_lines
from qwend.cli.status import lines


def shown(**host: Any) -> list[str]:
    return list(machine_lines(host))


def test_a_machine_that_shows_nothing_takes_no_line() -> None:
    assert shown() == []
    calm = {"left_bytes": 10**9, "pressure_percent": 0.4, "prefix_limit_bytes": 5, "short": False}
    assert shown(memory=calm) == []
    assert not [label for label, _ in lines({"host": {"memory": calm}}, False) if "mach" in label]


def test_everything_there_is_stands_on_one_line() -> None:
    host: dict[str, Any] = {
        "heat": {"zone": "cpu-thermal", "temperature_c": 78.4, "ceiling_c": 80.0, "threads": 3},
        "throttling": {"now": ["throttled"], "occurred": ["under_voltage", "throttled"]},
        "power": {"on_battery": True, "percent": 79.6, "saver": True},
        "energy": {"source": "power meter", "joules_per_token": 0.846},
        "memory": {"pressure_percent": 12.3, "prefix_limit_bytes": 50 << 20, "short": True},
    }
    assert shown(**host) == [
        "78 °C (cpu-thermal, throttles at 80 °C), throttled now, under-voltage before, "
        "on battery 80 %, half of the threads to save it, 0.85 J a token, "
        "12 % of the time waiting for memory, idle prefixes limited to 50 MiB"
    ]
    assert ("machine", shown(**host)[0]) in list(lines({"host": host}, False))


def test_memory_may_be_short_without_a_measured_pressure() -> None:
    memory = {"prefix_limit_bytes": 0, "short": True}
    assert shown(memory=memory) == ["idle prefixes limited to 0 KiB"]


@pytest.mark.parametrize(
    ("power", "text"),
    [
        ({"on_battery": False, "saver": False}, ["on mains"]),
        ({"on_battery": True, "saver": False}, ["on battery"]),
        ({"on_battery": False, "percent": 100.0}, ["battery 100 %"]),
        ({"percent": 50.0}, ["battery 50 %"]),
        ({"saver": False}, []),
    ],
)
def test_power(power: dict[str, Any], text: list[str]) -> None:
    assert shown(power=power) == text


def test_energy_that_cannot_be_read_is_named_on_a_line_of_its_own() -> None:
    problem = "reading /sys/class/powercap/intel-rapl:0/energy_uj: Permission denied"
    assert shown(energy={"problem": problem}) == [f"energy is not measured: {problem}"]
    text = list(
        lines({"host": {"energy": {"problem": problem}, "power": {"on_battery": False}}}, False)
    )
    assert ("", f"energy is not measured: {problem}") in text


def test_what_a_newer_daemon_calls_a_flag_is_shown_as_it_is() -> None:
    assert shown(throttling={"now": ["on_fire"], "occurred": None}) == ["on_fire now"]
