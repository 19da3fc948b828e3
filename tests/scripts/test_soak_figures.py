"""Lines through samples, the looks they come from, and the bars they are held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.lib.soak.bars import MIB, none_bar, slope_bar
from scripts.lib.soak.report import engine, front, missed
from scripts.lib.soak.trend import slope
from scripts.lib.soak.watch import Look, Taken, at_the_ends, of_the_last


def look(at_s: float, front_pid: int, engine_pid: int, memory: int) -> Look:
    return Look(at_s, Taken(front_pid, memory), Taken(engine_pid, memory), 0, 0, 0)


def test_the_slope_is_that_of_the_line() -> None:
    assert slope([(x, 3.0 + 2.0 * x) for x in (0.0, 1.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 1.0), (1.0, 5.0), (2.0, 1.0)]) == pytest.approx(0.0)


@pytest.mark.parametrize("samples", [[], [(1.0, 5.0)], [(1.0, 5.0), (1.0, 9.0)]])
def test_what_is_no_line_has_no_slope(samples: list[tuple[float, float]]) -> None:
    assert slope(samples) == 0.0


def test_a_leak_of_two_mebibytes_a_minute_is_a_miss() -> None:
    leak = [(float(s), 20 * MIB + s * 2 * MIB / 60) for s in range(60)]
    bar = slope_bar("memory", leak, 60)
    assert (bar.held, bar.reached) == (False, "+2.00 MiB/min")
    assert missed([bar, none_bar("wrong answers", 0)]) == [bar]
    assert slope_bar("memory", [(s, m / 4) for s, m in leak], 60).held is True


def test_too_few_samples_are_not_judged() -> None:
    bar = slope_bar("memory", [(0.0, 0.0), (1.0, 9e9)], 60)
    assert bar.held is None
    assert missed([bar]) == []


def test_one_thing_that_should_not_be_is_a_miss() -> None:
    assert none_bar("wrong answers", 1).held is False


def test_only_the_last_front_is_followed_and_only_from_an_age_on() -> None:
    looks = [look(float(s), 1 if s < 10 else 2, 3, s) for s in range(20)]
    assert of_the_last(looks, front, from_age_s=5.0) == [(float(s), s) for s in range(15, 20)]
    assert of_the_last([], front, from_age_s=5.0) == []


def test_engines_are_compared_at_their_end_and_young_ones_not_at_all() -> None:
    lives = [(1, range(12)), (2, range(12, 14)), (3, range(14, 30))]
    looks = [look(float(s), 9, pid, 100 * pid + s) for pid, seconds in lives for s in seconds]
    looks.append(look(30.0, 9, 0, 0))
    assert at_the_ends(looks, engine, least_age_s=10.0) == [(11.0, 111), (29.0, 329)]


def test_memory_is_what_is_anonymous_and_what_is_swapped(tmp_path: Path) -> None:
    fds = tmp_path / "7" / "fd"
    fds.mkdir(parents=True)
    (fds / "0").touch()
    status = "Name:\tx\nVmSwap:\t      3 kB\nRssAnon:\t   10 kB\nRssFile:\t  90 kB\nThreads:\t4\n"
    (tmp_path / "7" / "status").write_text(status)
    assert Taken.by(7, tmp_path) == Taken(7, 13 << 10, 1, 4)
    assert Taken.by(8, tmp_path) == Taken()
    assert Taken.by(0, tmp_path) == Taken()
