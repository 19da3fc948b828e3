"""The firmware's flags: bits 0 to 3 are now, bits 16 to 19 have been."""

from __future__ import annotations

import pytest

from qwend.host.throttling import Flag, Throttling, read_throttling

from .conftest import FakeHost

FLAGS = "/sys/devices/platform/soc/soc:firmware/get_throttled"
HWMON = "/sys/class/hwmon/hwmon1"
ALARM = f"{HWMON}/in0_lcrit_alarm"


def test_a_machine_without_flags_has_none(fake: FakeHost) -> None:
    fake.put({f"{HWMON}/name": "coretemp\n", ALARM: "1\n"})
    assert read_throttling(fake.root) is None


@pytest.mark.parametrize("text", ["50005\n", "0x50005", "0x50005\n"])
def test_bits_are_flags(fake: FakeHost, text: str) -> None:
    fake.put({FLAGS: text})
    flags = read_throttling(fake.root)
    assert flags is not None
    assert flags.now == flags.occurred == {Flag.UNDER_VOLTAGE, Flag.THROTTLED}


@pytest.mark.parametrize(
    ("bit", "flag"),
    [
        (0, Flag.UNDER_VOLTAGE),
        (1, Flag.FREQUENCY_CAPPED),
        (2, Flag.THROTTLED),
        (3, Flag.SOFT_TEMPERATURE_LIMIT),
    ],
)
def test_each_bit_is_its_own_flag(fake: FakeHost, bit: int, flag: Flag) -> None:
    fake.put({FLAGS: f"{1 << bit:x}\n"})
    one, none = frozenset({flag}), frozenset[Flag]()
    assert read_throttling(fake.root) == Throttling(now=one, occurred=none)
    fake.put({FLAGS: f"{1 << bit + 16:x}\n"})
    assert read_throttling(fake.root) == Throttling(now=none, occurred=one)


def test_a_raspberry_pi_5_has_them_elsewhere(fake: FakeHost) -> None:
    here = "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"
    fake.put({here: "0\n"})
    flags = read_throttling(fake.root)
    assert flags is not None
    assert not flags.now


def test_the_mainline_kernel_knows_of_under_voltage_alone(fake: FakeHost) -> None:
    fake.put({f"{HWMON}/name": "rpi_volt\n", ALARM: "1\n"})
    flags = read_throttling(fake.root)
    assert flags is not None
    assert flags.now == {Flag.UNDER_VOLTAGE}
    fake.put({ALARM: "0\n"})
    flags = read_throttling(fake.root)
    assert flags is not None
    assert not flags.now


@pytest.mark.parametrize("text", ["", "many", "0xzz"])
def test_nonsense_is_no_flag(fake: FakeHost, text: str) -> None:
    fake.put({FLAGS: text, f"{HWMON}/name": "rpi_volt", ALARM: text})
    assert read_throttling(fake.root) is None
