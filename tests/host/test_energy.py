"""Joules since the start, over wraps and faults; watts of a board."""

from __future__ import annotations

import pytest

from qwend.host.energy import EnergyCounters, board_watts

from .conftest import FakeHost

RAPL = "/sys/class/powercap/intel-rapl:{}"
HWMON = "/sys/class/hwmon/hwmon{}"


def domain(number: str, name: str, microjoules: int, **files: str) -> dict[str, str]:
    here = RAPL.format(number)
    texts = {"name": name, "energy_uj": str(microjoules), **files}
    return {f"{here}/{key}": f"{text}\n" for key, text in texts.items()}


def package(microjoules: int, number: str = "0", range_uj: str = "262143328850") -> dict[str, str]:
    return domain(number, f"package-{number}", microjoules, max_energy_range_uj=range_uj)


def test_without_counters_there_is_no_source_and_no_problem(fake: FakeHost) -> None:
    counters = EnergyCounters(fake.root, 0.0)
    assert (counters.source, counters.problem, counters.joules(5.0)) == ("", "", 0.0)


def test_joules_are_those_since_it_was_made(fake: FakeHost) -> None:
    fake.put(package(7_000_000))
    counters = EnergyCounters(fake.root, 0.0)
    assert counters.source == "/sys/class/powercap/intel-rapl:0"
    assert counters.joules(1.0) == 0.0
    fake.put(package(19_500_000))
    assert counters.joules(2.0) == pytest.approx(12.5)
    assert counters.joules(3.0) == pytest.approx(12.5)


def test_a_counter_that_began_again_at_its_range_goes_on(fake: FakeHost) -> None:
    fake.put(package(262_143_000_000, range_uj="262143328850"))
    counters = EnergyCounters(fake.root, 0.0)
    fake.put(package(5_000_000, range_uj="262143328850"))
    assert counters.joules(1.0) == pytest.approx(5.32885)


def test_all_packages_count_and_nothing_within_or_around_them(fake: FakeHost) -> None:
    def at(joules: int) -> dict[str, str]:
        uj = joules * 1_000_000
        return (
            package(uj)
            | package(uj, "1")
            | domain("0:0", "core", uj)
            | domain("0:1", "dram", uj)
            | domain("2", "psys", uj)
        )

    fake.put(at(10))
    counters = EnergyCounters(fake.root, 0.0)
    fake.put(at(12))
    assert counters.joules(1.0) == pytest.approx(4.0)


def test_a_counter_that_only_root_may_read_is_named(fake: FakeHost) -> None:
    fake.put({f"{RAPL.format('0')}/name": "package-0\n"})
    # The tests run as root, whom no mode stops: a directory cannot be read by anybody.
    fake.root.at(f"{RAPL.format('0')}/energy_uj").mkdir()
    counters = EnergyCounters(fake.root, 0.0)
    assert counters.source == ""
    assert counters.problem.startswith("reading /sys/class/powercap/intel-rapl:0/energy_uj: ")


def test_what_no_machine_can_take_is_no_energy(fake: FakeHost) -> None:
    fake.put(package(200_000_000_000))
    counters = EnergyCounters(fake.root, 0.0)
    fake.put(package(1_000_000))  # reset by a suspend: looks like 63 kJ
    assert counters.joules(5.0) == 0.0
    fake.put(package(11_000_000))
    assert counters.joules(6.0) == pytest.approx(10.0)


def test_a_counter_without_a_range_that_goes_back_counts_nothing(fake: FakeHost) -> None:
    fake.put(package(9_000_000, range_uj=""))
    counters = EnergyCounters(fake.root, 0.0)
    fake.put(package(1_000_000, range_uj=""))
    assert counters.joules(1.0) == 0.0


def test_two_looks_in_the_same_moment_lose_nothing(fake: FakeHost) -> None:
    fake.put(package(0))
    counters = EnergyCounters(fake.root, 0.0)
    fake.put(package(15_000))
    assert counters.joules(0.0) == pytest.approx(0.015)


def test_a_counter_that_fails_later_is_named_and_the_sum_stays(fake: FakeHost) -> None:
    fake.put(package(0))
    counters = EnergyCounters(fake.root, 0.0)
    fake.put(package(2_000_000))
    assert counters.joules(1.0) == pytest.approx(2.0)
    fake.root.at(f"{RAPL.format('0')}/energy_uj").write_text("?")
    assert counters.joules(2.0) == pytest.approx(2.0)
    assert "is no number of microjoules" in counters.problem


def test_the_sockets_of_amd_energy_count_and_its_cores_do_not(fake: FakeHost) -> None:
    here = HWMON.format(3)
    fake.put({f"{here}/name": "amd_energy", f"{here}/energy1_label": "Ecore000"})
    fake.put({f"{here}/energy1_input": "5", f"{here}/energy33_label": "Esocket0"})
    fake.put({f"{here}/energy33_input": "1000000"})
    counters = EnergyCounters(fake.root, 0.0)
    fake.put({f"{here}/energy33_input": "4000000", f"{here}/energy1_input": "999999999"})
    assert counters.joules(1.0) == pytest.approx(3.0)


@pytest.mark.parametrize("name", ["power_meter", "ina226", "ina3221"])
def test_a_meter_of_the_board_says_watts(fake: FakeHost, name: str) -> None:
    fake.put({f"{HWMON.format(0)}/name": "amdgpu", f"{HWMON.format(0)}/power1_average": "90000000"})
    fake.put({f"{HWMON.format(1)}/name": name, f"{HWMON.format(1)}/power1_input": "4250000\n"})
    assert board_watts(fake.root) == 4.25
    fake.put({f"{HWMON.format(1)}/power1_average": "4000000\n"})
    assert board_watts(fake.root) == 4.0


@pytest.mark.parametrize("text", ["", "lots", "-5"])
def test_a_meter_that_says_nonsense_is_none(fake: FakeHost, text: str) -> None:
    fake.put({f"{HWMON.format(1)}/name": "ina226", f"{HWMON.format(1)}/power1_input": text})
    assert board_watts(fake.root) is None
