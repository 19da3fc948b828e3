"""Threads go before the processor throttles and come back once it has cooled, without flicker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import exp

import pytest

from qwend.daemon.heat_control import CHANGE_S, HYSTERESIS_C, LONGEST_WAIT_S, MARGIN_C, HeatControl
from qwend.host.thermal import Heat

pytestmark = pytest.mark.row("H4")

CEILING_C = 80.0
LOOK_S = 5.0


def heat(celsius: float) -> Heat:
    return Heat("cpu-thermal", celsius, CEILING_C, from_trip=True)


@dataclass
class Board:
    """Warms towards what its threads and the room make of it, within a minute or so."""

    threads: int = 4
    room_c: Callable[[float], float] = lambda now: 25.0
    per_thread_c: float = 12.0
    celsius: float = 40.0
    now: float = 1000.0
    control: HeatControl = field(default_factory=HeatControl)
    changes: list[tuple[float, int]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK_S
            running = self.control.threads or self.threads
            target = self.room_c(self.now) + 10.0 + running * self.per_thread_c
            self.celsius += (target - self.celsius) * (1 - exp(-LOOK_S / 60.0))
            before = self.control.threads
            self.control.observe(heat(self.celsius), self.threads, self.now)
            if self.control.threads != before:
                self.changes.append((self.now, self.control.threads))

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for (earlier, _), (later, _) in pairwise(self.changes)]


def swinging(room_c: float) -> Callable[[float], float]:
    """Warmer by 15 °C for half of every five minutes."""
    return lambda now: room_c + 15.0 * (now % 300 < 150)


def test_a_cool_board_keeps_all_threads() -> None:
    board = Board(per_thread_c=8.0)
    board.run(3600)
    assert board.changes == []


def test_a_hot_board_gives_up_threads_and_stays_below_its_ceiling() -> None:
    board = Board()
    board.run(1200)
    assert board.changes[0][1] == 3
    assert board.celsius < CEILING_C
    assert 0 < board.control.threads < 4


def test_no_two_changes_within_thirty_seconds() -> None:
    for room in (25.0, 35.0, 45.0, 60.0):
        board = Board(room_c=swinging(room))
        board.run(7200)
        assert board.gaps
        assert min(board.gaps) >= CHANGE_S


def test_a_board_that_stays_hot_does_not_flicker() -> None:
    # With three threads it cools to 64.5 °C, with four it is too hot again at 76.5 °C.
    board = Board(room_c=lambda now: 18.5)
    board.run(7200)
    assert len(board.changes) > 4
    late = [at for at, _ in board.changes if at > 1000.0 + 3600]
    assert len(late) <= 2 * 3600 / LONGEST_WAIT_S + 1


def test_the_first_heat_after_a_long_time_is_not_held_against_it() -> None:
    hot = 18.5
    board = Board(room_c=lambda now: hot)
    board.run(3600)
    hot = 5.0
    board.run(3 * LONGEST_WAIT_S)
    assert board.control.threads == 0
    hot = 25.0
    while not board.control.threads:
        board.run(LOOK_S)
    hot, hot_at = -40.0, board.now
    while board.control.threads:
        board.run(LOOK_S)
    assert board.now - hot_at < LONGEST_WAIT_S / 2


def test_when_the_room_has_cooled_all_threads_come_back() -> None:
    board = Board(room_c=lambda now: 45.0 if now < 2000.0 else 15.0)
    board.run(1000)
    assert board.control.threads in (1, 2)
    board.run(3 * LONGEST_WAIT_S + 600)
    assert board.control.threads == 0


def test_above_the_ceiling_half_of_the_threads_go_at_once() -> None:
    control = HeatControl()
    control.observe(heat(CEILING_C), 8, 0.0)
    assert control.threads == 4
    control.observe(heat(CEILING_C + 10), 8, CHANGE_S)
    control.observe(heat(CEILING_C + 10), 8, 2 * CHANGE_S)
    control.observe(heat(CEILING_C + 10), 8, 3 * CHANGE_S)
    assert control.threads == 1


@pytest.mark.parametrize(
    ("headroom_c", "threads"),
    [(MARGIN_C + 0.1, 0), (MARGIN_C, 3), (0.1, 3), (0.0, 2), (-20.0, 2)],
)
def test_what_each_headroom_costs(headroom_c: float, threads: int) -> None:
    control = HeatControl()
    control.observe(heat(CEILING_C - headroom_c), 4, 0.0)
    assert control.threads == threads


@pytest.mark.parametrize(
    ("headroom_c", "threads"),
    [(MARGIN_C + HYSTERESIS_C - 0.1, 3), (MARGIN_C + HYSTERESIS_C, 0)],
)
def test_a_thread_comes_back_only_beyond_the_hysteresis(headroom_c: float, threads: int) -> None:
    control = HeatControl()
    control.observe(heat(CEILING_C), 6, 0.0)
    assert control.threads == 3
    control.observe(heat(CEILING_C - headroom_c), 4, 1000.0)
    assert control.threads == threads


def test_one_thread_is_the_least() -> None:
    control = HeatControl()
    control.observe(heat(CEILING_C + 10), 1, 0.0)
    assert control.threads == 0
    control.observe(heat(CEILING_C + 10), 2, 100.0)
    control.observe(heat(CEILING_C + 10), 2, 200.0)
    assert control.threads == 1


def test_a_sensor_that_has_gone_lifts_the_limit_but_not_at_once() -> None:
    control = HeatControl()
    control.observe(heat(CEILING_C), 4, 0.0)
    control.observe(None, 4, CHANGE_S - 1)
    assert control.threads == 2
    control.observe(None, 4, CHANGE_S)
    assert control.threads == 0


def test_fewer_planned_threads_than_the_limit_are_no_limit() -> None:
    control = HeatControl()
    control.observe(heat(CEILING_C - 1), 8, 0.0)
    assert control.threads == 7
    control.observe(heat(CEILING_C - 10), 4, 100.0)
    control.observe(heat(CEILING_C - 1), 4, 200.0)
    assert control.threads == 3
