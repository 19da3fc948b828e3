"""The plan of faults: enough of each, and never what the daemon is right to give up at."""

from __future__ import annotations

import pytest

from qwend.daemon.supervisor import DEATHS_WINDOW_S, MOST_DEATHS
from scripts.lib.soak.bars import ENGINE_KILLS, FRONT_KILLS, STOPS
from scripts.lib.soak.schedule import FRONT_KILLS_UNTIL, Kind, most_within, schedule

DEATHS = (Kind.KILL_ENGINE, Kind.HANG_ENGINE)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_minutes_have_what_is_to_be_shown(seed: int) -> None:
    faults = schedule(600.0, seed, disk=True)
    kinds = [fault.kind for fault in faults]
    assert kinds.count(Kind.KILL_ENGINE) >= ENGINE_KILLS
    assert kinds.count(Kind.KILL_FRONT) >= FRONT_KILLS
    stops = (Kind.STOP_ENGINE, Kind.STOP_FRONT, Kind.HANG_ENGINE)
    assert sum(kind in stops for kind in kinds) >= STOPS
    assert kinds.count(Kind.FILL_DISK) >= 5


@pytest.mark.parametrize("seconds", [6.0, 18.0, 120.0, 600.0, 3600.0])
def test_engines_die_no_oftener_than_the_daemon_takes(seconds: float) -> None:
    for seed in range(100):
        times = [f.at_s for f in schedule(seconds, seed, disk=True) if f.kind in DEATHS]
        assert most_within(times, DEATHS_WINDOW_S) <= MOST_DEATHS, seed


def test_a_short_run_has_one_of_each() -> None:
    assert {fault.kind for fault in schedule(18.0, 1, disk=True)} == set(Kind)
    assert {fault.kind for fault in schedule(18.0, 1, disk=False)} == set(Kind) - {Kind.FILL_DISK}


def test_the_last_front_grows_old() -> None:
    faults = schedule(600.0, 1, disk=True)
    assert max(f.at_s for f in faults if f.kind is Kind.KILL_FRONT) <= FRONT_KILLS_UNTIL * 600


def test_a_seed_gives_the_same_plan_again() -> None:
    assert schedule(60.0, 5, disk=True) == schedule(60.0, 5, disk=True)
    assert schedule(60.0, 5, disk=True) != schedule(60.0, 6, disk=True)


def test_faults_come_in_order_and_within_the_run() -> None:
    times = [fault.at_s for fault in schedule(120.0, 3, disk=True)]
    assert times == sorted(times)
    assert 0 < times[0] <= times[-1] < 120


def test_the_busiest_window_is_found() -> None:
    assert most_within([0.0, 1.0, 10.0, 10.5, 11.0], 2.0) == 3
    assert most_within([], 2.0) == 0
