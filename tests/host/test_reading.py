"""One look at a machine: all of it, or nothing of it."""

from __future__ import annotations

from qwend.host.reading import Reading, read_machine
from qwend.host.root import HostRoot

from .conftest import FakeHost


def test_a_machine_that_shows_nothing_is_no_error(fake: FakeHost) -> None:
    assert read_machine(fake.root) == Reading()


def test_this_machine_can_be_read() -> None:
    reading = read_machine(HostRoot())
    assert reading.total_bytes is not None
    assert reading.before_oom_bytes is not None
    assert 0 < reading.before_oom_bytes <= reading.total_bytes


def test_each_part_is_read(fake: FakeHost) -> None:
    battery = "/sys/class/power_supply/BAT0"
    fake.put({"/proc/meminfo": "MemTotal: 8000 kB\nMemAvailable: 4000 kB\n"})
    fake.put({"/proc/pressure/memory": "some avg10=2.50\n"})
    fake.put({"/sys/class/thermal/thermal_zone0/type": "cpu-thermal"})
    fake.put({"/sys/class/thermal/thermal_zone0/temp": "50000"})
    fake.put({"/sys/devices/platform/soc/soc:firmware/get_throttled": "0"})
    fake.put({f"{battery}/type": "Battery", f"{battery}/status": "Discharging"})
    fake.put({f"{battery}/power_now": "7000000"})
    reading = read_machine(fake.root)
    assert (reading.total_bytes, reading.before_oom_bytes) == (8000 * 1024, 4000 * 1024)
    assert reading.watts == 7.0
    assert None not in (reading.heat, reading.throttling, reading.power, reading.pressure)


def test_a_meter_of_the_board_is_believed_before_the_battery(fake: FakeHost) -> None:
    battery, meter = "/sys/class/power_supply/BAT0", "/sys/class/hwmon/hwmon0"
    fake.put({f"{battery}/type": "Battery", f"{battery}/status": "Discharging"})
    fake.put({f"{battery}/power_now": "7000000"})
    fake.put({f"{meter}/name": "power_meter", f"{meter}/power1_average": "9000000"})
    assert read_machine(fake.root).watts == 9.0
