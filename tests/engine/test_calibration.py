"""Calibration: tables of step costs, in bounded time, and cells as empty as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qwend.engine.backend import DecodeFailed
from qwend.engine.batch import Batch
from qwend.engine.calibration import (
    THREADS_TIME_S,
    DepthCost,
    calibrate,
    calibrate_script,
    choose_flash_attention,
)
from qwend.engine.scripted import Script
from qwend.engine.step_cost import StepCost
from tests.support.engine import Clock, RecordingBackend

# 0.5B on two x86-64 cores.
QUIET = {1: 0.018, 2: 0.026, 3: 0.033, 4: 0.034, 8: 0.055, 16: 0.087, 64: 0.318, 128: 0.630}
CELL_S = 1.2e-6
LOGITS_S = 0.003


class Timed(RecordingBackend):
    """Each decode moves the clock by what a machine of known costs takes for it."""

    def __init__(
        self,
        clock: Clock,
        slower: Callable[[int], float] = lambda threads: 1.0,
        cell_s: float = CELL_S,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.clock = clock
        self.slower = slower
        self.cost = StepCost(QUIET, cell_s=cell_s)
        self.most_used = 0
        self.deep: list[tuple[int, int]] = []  # (rows, used cells before)

    def decode(self, batch: Batch) -> None:
        used = self.used_cells
        self.most_used = max(self.most_used, used)
        super().decode(batch)
        rows, sampled = len(batch), len(batch.sampled_rows)
        seconds = self.cost.calibrated(rows, 1, used) + LOGITS_S * (sampled - 1)
        self.clock.now += seconds * self.slower(self.threads)
        if used > 128:
            self.deep.append((rows, used))


def sizes(backend: RecordingBackend) -> set[int]:
    return {len(batch) for batch in backend.batches}


def of(**settings: Any) -> Timed:
    return Timed(Clock(), **settings)


# The tables


def test_the_table_is_that_of_the_machine() -> None:
    backend = of()
    found = calibrate(backend, backend.clock, measured_at=5.0)
    for rows, seconds in QUIET.items():
        assert found.cost.seconds(rows) == pytest.approx(seconds, rel=0.01)
    assert found.cost.tile == 4
    assert found.measured_at == 5.0
    assert not found.kept


def test_logits_on_all_rows_are_measured_too() -> None:
    backend = of()
    cost = calibrate(backend, backend.clock).cost
    for rows in (2, 4, 8):
        more_s = cost.seconds(rows, rows) - cost.seconds(rows)
        assert more_s == pytest.approx(LOGITS_S * (rows - 1), rel=0.01)


def test_no_step_asks_for_more_logits_than_there_are_sequences() -> None:
    backend = of(sequences=4)
    calibrate(backend, backend.clock)
    assert max(len(batch.sampled_rows) for batch in backend.batches) == 4


def test_the_slope_by_used_cells_is_found_without_prefilling_them() -> None:
    backend = of()
    found = calibrate(backend, backend.clock)
    assert found.cost.cell_s == pytest.approx(CELL_S, rel=0.1)
    assert found.used_cells == 8 * 64
    assert {rows for rows, used in backend.deep if used >= 512} == {1, 16}
    assert sum(map(len, backend.batches)) < 1000


def test_a_step_that_is_no_slower_among_full_cells_has_no_slope() -> None:
    backend = of(cell_s=0.0)
    assert calibrate(backend, backend.clock).cost.cell_s == 0.0


# Limits


def test_the_cells_are_empty_afterwards() -> None:
    backend = of()
    calibrate(backend, backend.clock)
    assert backend.most_used > 512
    assert backend.used_cells == 0


@pytest.mark.parametrize(("rows", "cells"), [(16, 100), (128, 20), (1, 8192), (64, 64), (2, 2)])
def test_no_step_is_larger_than_the_batch_or_the_cells(rows: int, cells: int) -> None:
    backend = of(batch_rows=rows, cells=cells)
    calibrate(backend, backend.clock)
    assert max(sizes(backend)) <= min(rows, cells)
    assert backend.used_cells == 0


def test_a_step_that_is_refused_leaves_the_cells_empty() -> None:
    undisturbed = of()
    calibrate(undisturbed, undisturbed.clock)
    among_full_cells = next(
        at for at, batch in enumerate(undisturbed.batches) if batch.rows[0].position
    )
    backend = of(script=Script(fail_at_step=among_full_cells + 1))
    with pytest.raises(DecodeFailed):
        calibrate(backend, backend.clock)
    assert backend.most_used >= 512
    assert backend.used_cells == 0


@pytest.mark.parametrize("slower", [1.0, 3.0, 10.0, 40.0])
def test_it_ends_in_time_on_a_machine_of_any_speed(slower: float) -> None:
    backend = of(slower=lambda threads: slower)
    found = calibrate(backend, backend.clock, threads=2)
    # The one row is measured whatever it takes; other sizes may be begun a little too late.
    assert found.took_s <= max(3.0, THREADS_TIME_S + 2 * QUIET[1] * slower)
    assert found.cost.seconds(1) == pytest.approx(QUIET[1] * slower)


def test_the_usual_machine_is_measured_whole_in_the_time() -> None:
    backend = of(slower=lambda threads: 2 / threads if threads < 2 else 1.0)
    calibrate(backend, backend.clock, threads=2)
    assert sizes(backend) == set(QUIET)


def test_what_matters_most_is_measured_first() -> None:
    backend = of()
    calibrate(backend, backend.clock)
    in_order = list(dict.fromkeys(len(batch) for batch in backend.batches))
    assert in_order[:4] == [1, 4, 16, 64]


@pytest.mark.parametrize(("rows", "expected"), [(1, [1, 1]), (64, [1, 1, 4, 4, 16, 16, 64, 64])])
def test_a_script_can_count_on_the_steps_of_its_calibration(rows: int, expected: list[int]) -> None:
    backend = of(batch_rows=rows, slower=lambda threads: 50.0)
    found = calibrate_script(backend, backend.clock)
    assert [len(batch) for batch in backend.batches] == expected
    assert found.cost.seconds(1) == pytest.approx(QUIET[1] * 50)
    assert backend.used_cells == 0


# Threads


def test_all_threads_are_kept_where_they_are_quickest() -> None:
    backend = of(slower=lambda threads: 4 / threads)
    found = calibrate(backend, backend.clock, threads=4)
    assert found.threads == backend.threads == 4
    assert set(found.by_threads) == {1, 2, 3, 4}
    assert found.by_threads[1] == pytest.approx(QUIET[1] * 4)


def test_fewer_threads_are_taken_where_they_are_clearly_quicker() -> None:
    # Four threads on two cores of two siblings each.
    backend = of(slower=lambda threads: {1: 1.7, 2: 1.0, 3: 1.4, 4: 1.2}[threads])
    found = calibrate(backend, backend.clock, threads=4)
    assert found.threads == backend.threads == 2
    assert found.cost.seconds(1) == pytest.approx(QUIET[1])


def test_a_small_gain_for_one_row_does_not_cost_prefill_its_threads() -> None:
    backend = of(slower=lambda threads: {1: 1.7, 2: 1.2, 3: 0.95, 4: 1.0}[threads])
    assert calibrate(backend, backend.clock, threads=4).threads == 4


# Kept tables


def kept_for(slower: float, threads: int = 2) -> tuple[Any, Timed]:
    first = of()
    cached = replace(calibrate(first, first.clock, threads=2), threads=2)
    second = of(slower=lambda threads: slower)
    return calibrate(second, second.clock, cached, threads=threads), second


@pytest.mark.parametrize("slower", [0.85, 1.0, 1.2, 4.0])
def test_a_kept_table_that_is_still_true_costs_a_few_steps(slower: float) -> None:
    found, backend = kept_for(slower)
    assert found.kept
    assert found.cost.seconds(16) == pytest.approx(QUIET[16], rel=0.01)
    assert len(backend.batches) <= 4
    assert backend.threads == 2
    assert backend.used_cells == 0
    assert found.took_s < 5 * QUIET[1] * slower


@pytest.mark.parametrize("slower", [0.5, 0.7, 8.0])
def test_a_kept_table_that_is_no_longer_true_is_measured_anew(slower: float) -> None:
    found, _ = kept_for(slower)
    assert not found.kept
    assert found.cost.seconds(16) == pytest.approx(QUIET[16] * slower, rel=0.01)


def test_a_kept_table_for_more_threads_than_there_are_now_is_measured_anew() -> None:
    found, _ = kept_for(1.0, threads=1)
    assert not found.kept
    assert found.threads == 1


# Flash attention


def test_flash_attention_is_chosen_by_the_deep_step_more_than_by_the_shallow_one() -> None:
    costs = {"on": DepthCost(0.018, 0.0230), "off": DepthCost(0.019, 0.0200)}
    assert choose_flash_attention(costs.__getitem__) == "off"
    costs = {"on": DepthCost(0.020, 0.0200), "off": DepthCost(0.019, 0.0230)}
    assert choose_flash_attention(costs.__getitem__) == "on"


def test_flash_attention_that_gains_next_to_nothing_stays_off() -> None:
    costs = {"on": DepthCost(0.0189, 0.0199), "off": DepthCost(0.0190, 0.0200)}
    assert choose_flash_attention(costs.__getitem__) == "off"
