"""The processor's zone counts, the one nearest to where the processor is slowed down."""

from __future__ import annotations

import pytest

from qwend.host.thermal import (
    BELOW_CRITICAL_C,
    DEFAULT_CEILING_C,
    X86_CEILING_C,
    read_heat,
    temperature_c,
)

from .conftest import FakeHost


def zone(number: int, kind: str, temp: str, **files: str) -> dict[str, str]:
    here = f"/sys/class/thermal/thermal_zone{number}"
    named = {"type": kind, "temp": temp, **files}
    return {f"{here}/{name}": f"{text}\n" for name, text in named.items()}


def trips(**temperatures: str) -> dict[str, str]:
    """Files of trip points by kind; a number behind the kind tells several of it apart."""
    files = {}
    for number, (kind, temp) in enumerate(temperatures.items()):
        files[f"trip_point_{number}_type"] = kind.rstrip("0123456789")
        files[f"trip_point_{number}_temp"] = temp
    return files


def test_without_zones_nothing_is_known(fake: FakeHost) -> None:
    assert read_heat(fake.root) is None
    assert temperature_c(fake.root) is None


# Raspberry Pi 5 (bcm2712.dtsi): the fan's trip points are active, the firmware throttles by itself.
def test_a_raspberry_pi_has_the_ceiling_of_its_firmware(fake: FakeHost) -> None:
    fake.put(zone(0, "cpu-thermal", "61250", **trips(critical="110000", active0="50000")))
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.zone, heat.temperature_c, heat.ceiling_c) == ("cpu-thermal", 61.25, 80.0)
    assert (heat.from_trip, heat.headroom_c) == (False, 18.75)
    assert temperature_c(fake.root) == 61.25


# RK3588, the vendor's kernel: seven zones, IPA between 75 and 85 °C.
def test_of_an_rk3588_the_core_nearest_to_its_ceiling_counts(fake: FakeHost) -> None:
    ipa = {"policy": "power_allocator"}
    fake.put(
        zone(0, "soc-thermal", "70000", **ipa, **trips(passive0="75000", passive1="85000"))
        | zone(1, "bigcore0-thermal", "78000", **trips(critical="115000"))
        | zone(2, "bigcore1-thermal", "72000", **trips(critical="115000"))
        | zone(5, "gpu-thermal", "99000", **trips(passive="75000"))
        | zone(6, "npu-thermal", "99000")
        | zone(4, "center-thermal", "99000")
    )
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.zone, heat.temperature_c) == ("bigcore0-thermal", 78.0)
    fake.put(zone(0, "soc-thermal", "84000", **ipa))
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.zone, heat.ceiling_c, heat.from_trip) == ("soc-thermal", 85.0, True)


def test_the_hottest_zone_is_not_always_the_nearest_to_its_ceiling(fake: FakeHost) -> None:
    fake.put(zone(0, "cpu0-thermal", "82000", **trips(passive="95000")))
    fake.put(zone(1, "cpu4-thermal", "78000", **trips(passive="80000")))
    heat = read_heat(fake.root)
    assert heat is not None
    assert heat.zone == "cpu4-thermal"


def test_other_governors_throttle_at_the_first_passive_trip(fake: FakeHost) -> None:
    fake.put(
        zone(
            0,
            "cpu-thermal",
            "70000",
            policy="step_wise",
            **trips(passive0="85000", passive1="75000"),
        )
    )
    heat = read_heat(fake.root)
    assert heat is not None
    assert heat.ceiling_c == 75.0


# N100: the zone of ACPI says the same all day, x86_pkg_temp has two unset trip points.
def test_of_an_intel_machine_the_package_counts(fake: FakeHost) -> None:
    fake.put(
        zone(0, "acpitz", "27800", **trips(passive="95000", critical="119000"))
        | zone(1, "INT3400 Thermal", "20000")
        | zone(2, "TCPU", "61000", **trips(critical="105000", passive="100000"))
        | zone(3, "x86_pkg_temp", "62000", **trips(passive0="0", passive1="-274000"))
        | zone(4, "iwlwifi_1", "70000")
        | zone(5, "pch_cannonlake", "72000")
    )
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.zone, heat.temperature_c, heat.ceiling_c) == ("x86_pkg_temp", 62.0, X86_CEILING_C)


def test_where_nothing_is_named_after_the_processor_the_first_zone_counts(fake: FakeHost) -> None:
    fake.put(zone(10, "ambientish", "99000") | zone(2, "acpitz", "41000") | zone(3, "x", "50000"))
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.zone, heat.ceiling_c) == ("acpitz", X86_CEILING_C)


def test_a_zone_of_something_else_never_counts(fake: FakeHost) -> None:
    fake.put(zone(0, "iwlwifi_1", "61000"))
    assert read_heat(fake.root) is None
    fake.put(zone(1, "acpitz", "41000"))
    assert temperature_c(fake.root) == 41.0


def test_a_hot_trip_point_counts_where_there_is_no_passive_one(fake: FakeHost) -> None:
    fake.put(zone(0, "cpu-thermal", "50000", **trips(hot="70000", critical="90000")))
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.ceiling_c, heat.from_trip) == (70.0, True)


def test_the_ceiling_keeps_away_from_where_the_machine_turns_itself_off(fake: FakeHost) -> None:
    fake.put(zone(0, "cpu-thermal", "50000", **trips(critical="85000")))
    heat = read_heat(fake.root)
    assert heat is not None
    assert heat.ceiling_c == 85.0 - BELOW_CRITICAL_C < DEFAULT_CEILING_C


@pytest.mark.parametrize("text", ["", "warm", "0", "-274000", "2147483647", "9" * 400])
@pytest.mark.row("H4")
def test_a_broken_sensor_is_ignored(fake: FakeHost, text: str) -> None:
    fake.put(zone(0, "cpu-thermal", text))
    assert read_heat(fake.root) is None
    fake.put(zone(1, "cpu1-thermal", "55000"))
    heat = read_heat(fake.root)
    assert heat is not None
    assert heat.zone == "cpu1-thermal"


@pytest.mark.parametrize("text", ["", "hot", "20000", "999000"])
def test_a_trip_point_that_cannot_be_one_is_none(fake: FakeHost, text: str) -> None:
    fake.put(zone(0, "cpu-thermal", "50000", **trips(passive=text)))
    heat = read_heat(fake.root)
    assert heat is not None
    assert (heat.ceiling_c, heat.from_trip) == (DEFAULT_CEILING_C, False)
