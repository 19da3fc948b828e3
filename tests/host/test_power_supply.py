"""Mains or battery, by what each driver says and leaves out."""

from __future__ import annotations

import pytest

from qwend.host.power_supply import Power, read_power

from .conftest import FakeHost


def supply(name: str, **files: str) -> dict[str, str]:
    return {f"/sys/class/power_supply/{name}/{key}": f"{text}\n" for key, text in files.items()}


AC_OUT = supply("AC", type="Mains", online="0")
AC_IN = supply("AC", type="Mains", online="1")


def test_a_board_without_supplies_says_nothing(fake: FakeHost) -> None:
    assert read_power(fake.root) is None


def test_mains_alone_is_no_battery(fake: FakeHost) -> None:
    fake.put(AC_IN)
    assert read_power(fake.root) == Power(on_battery=False)


@pytest.mark.parametrize(
    ("mains", "status", "on_battery"),
    [
        (AC_OUT, "Discharging", True),
        (AC_OUT, "Unknown", True),
        (AC_IN, "Discharging", False),  # a charger that cannot keep up
        (AC_IN, "Charging", False),
        ({}, "Discharging", True),
        ({}, "Full", False),
        ({}, "Not charging", False),
        ({}, "Unknown", None),
        ({}, "", None),
    ],
)
def test_on_battery(
    fake: FakeHost, mains: dict[str, str], status: str, on_battery: bool | None
) -> None:
    fake.put(mains | supply("BAT0", type="Battery", status=status, capacity="80"))
    power = read_power(fake.root)
    assert power is not None
    assert (power.on_battery, power.percent) == (on_battery, 80.0)


def test_a_plug_of_usb_is_mains(fake: FakeHost) -> None:
    fake.put(supply("BAT0", type="Battery", status="Discharging", capacity="80"))
    fake.put(supply("ucsi-source-psy", type="USB", online="1"))
    power = read_power(fake.root)
    assert power is not None
    assert power.on_battery is False


def test_the_battery_of_a_mouse_is_ignored(fake: FakeHost) -> None:
    fake.put(supply("hid-mouse", type="Battery", scope="Device", status="Discharging"))
    assert read_power(fake.root) is None


def test_an_empty_bay_is_no_battery(fake: FakeHost) -> None:
    fake.put(supply("BAT1", type="Battery", present="0", status="Unknown", capacity="0"))
    assert read_power(fake.root) is None


def test_several_batteries_are_one_by_their_size(fake: FakeHost) -> None:
    fake.put(supply("BAT0", type="Battery", capacity="100", energy_full="30000000"))
    fake.put(supply("BAT1", type="Battery", capacity="20", energy_full="10000000"))
    fake.put(supply("BAT1", status="Discharging"))
    power = read_power(fake.root)
    assert power is not None
    assert (power.on_battery, power.percent) == (True, 80.0)


def test_batteries_that_do_not_say_their_size_count_alike(fake: FakeHost) -> None:
    fake.put(supply("ups", type="UPS", status="Discharging", capacity="100"))
    fake.put(supply("BAT1", type="Battery", capacity="20", charge_full="1000000"))
    power = read_power(fake.root)
    assert power is not None
    assert power.percent == 60.0


def test_the_power_that_leaves_the_batteries_is_told_while_it_does(fake: FakeHost) -> None:
    fake.put(AC_OUT | supply("BAT0", type="Battery", status="Discharging", power_now="6500000"))
    fake.put(supply("BAT1", type="Battery", current_now="-500000", voltage_now="8000000"))
    power = read_power(fake.root)
    assert power is not None
    assert power.watts == pytest.approx(10.5)
    fake.put(AC_IN)
    power = read_power(fake.root)
    assert power is not None
    assert power.watts is None


@pytest.mark.parametrize("text", ["", "lots", "9" * 400])
def test_nonsense_is_nothing_known(fake: FakeHost, text: str) -> None:
    fake.put(supply("BAT0", type="Battery", status=text, capacity=text, power_now=text))
    fake.put(supply("AC", type="Mains", online=text))
    assert read_power(fake.root) == Power(on_battery=None)


def test_a_capacity_above_all_of_it_is_all_of_it(fake: FakeHost) -> None:
    fake.put(supply("BAT0", type="Battery", status="Full", capacity="104"))
    assert read_power(fake.root) == Power(on_battery=False, percent=100.0)
