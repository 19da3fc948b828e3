"""Calibration: a table of step costs, in bounded time, and cells as empty as before."""

from __future__ import annotations

from typing import Any

import pytest

from qwend.engine.batch import Batch
from qwend.engine.calibration import REPEATS, ROW_COUNTS, TIME_LIMIT_S, calibrate
from tests.support.engine import Clock, RecordingBackend


class Timed(RecordingBackend):
    """Each decode moves the clock by so many seconds a row."""

    def __init__(self, clock: Clock, row_s: list[float], **settings: Any) -> None:
        super().__init__(**settings)
        self.clock = clock
        self.row_s = row_s

    def decode(self, batch: Batch) -> None:
        super().decode(batch)
        rate = self.row_s.pop(0) if len(self.row_s) > 1 else self.row_s[0]
        self.clock.now += rate * len(batch)


def sizes(backend: RecordingBackend) -> list[int]:
    return [len(batch) for batch in backend.batches]


def test_every_size_is_measured_twice_and_the_faster_counts() -> None:
    clock = Clock()
    backend = Timed(clock, [0.004, 0.001])
    cost = calibrate(backend, clock)
    assert sizes(backend) == [rows for rows in ROW_COUNTS for _ in range(REPEATS)]
    assert cost.seconds(1) == pytest.approx(0.001)
    assert cost.seconds(128) == pytest.approx(0.128)


def test_the_cells_are_empty_afterwards() -> None:
    clock = Clock()
    backend = Timed(clock, [0.001])
    calibrate(backend, clock)
    assert backend.used_cells == 0


def test_no_step_is_larger_than_the_batch_or_the_cells() -> None:
    clock = Clock()
    backend = Timed(clock, [0.001], batch_rows=16, cells=100)
    calibrate(backend, clock)
    assert max(sizes(backend)) == 16
    backend = Timed(clock, [0.001], cells=20)
    calibrate(backend, clock)
    assert max(sizes(backend)) == 16


def test_a_slow_machine_measures_less_and_still_has_a_table() -> None:
    clock = Clock()
    backend = Timed(clock, [TIME_LIMIT_S * 2])
    cost = calibrate(backend, clock)
    assert sizes(backend) == [1] * REPEATS
    assert cost.seconds(4) == pytest.approx(TIME_LIMIT_S * 2 * 4)


def test_only_the_last_row_asks_for_logits() -> None:
    clock = Clock()
    backend = Timed(clock, [0.001])
    calibrate(backend, clock)
    for batch in backend.batches:
        assert batch.sampled_rows == (len(batch) - 1,)
