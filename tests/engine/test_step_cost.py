"""The cost table: linear between measurements, rising with whole tiles, corrected as it runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.step_cost import CORRECTION_RANGE, TILE, StepCost

MEASURED = st.dictionaries(st.integers(1, 512), st.floats(1e-6, 10.0), min_size=1, max_size=8)
# 0.5B on two x86-64 cores (AVX2), which repack its weights to tiles of 4 rows.
TILED = {1: 0.019, 2: 0.026, 3: 0.033, 4: 0.034, 8: 0.055, 16: 0.087, 64: 0.318}
ALL_SAMPLED = {1: 0.018, 2: 0.032, 4: 0.043, 8: 0.076}
CELL_S = 1.2e-6


def test_a_measured_step_costs_what_was_measured() -> None:
    cost = StepCost({1: 0.020, 4: 0.040, 16: 0.100})
    assert [cost.seconds(rows) for rows in (1, 4, 16)] == pytest.approx([0.020, 0.040, 0.100])


def test_between_and_beyond_measurements_it_is_linear() -> None:
    cost = StepCost({4: 0.040, 16: 0.100})
    assert cost.seconds(10) == pytest.approx(0.070)
    assert cost.seconds(28) == pytest.approx(0.160)


def test_fewer_rows_than_measured_cost_as_much_as_the_fewest() -> None:
    assert StepCost({4: 0.040, 16: 0.100}).seconds(1) == pytest.approx(0.040)


def test_one_measurement_grows_in_proportion() -> None:
    assert StepCost({4: 0.040}).seconds(8) == pytest.approx(0.080)


def test_no_rows_cost_nothing() -> None:
    assert StepCost({1: 0.020}).seconds(0) == 0.0


@given(MEASURED, st.integers(1, 600))
def test_more_rows_never_cost_less(measured: dict[int, float], rows: int) -> None:
    cost = StepCost(measured)
    step = cost.tile
    assert cost.seconds(rows * step) <= cost.seconds((rows + 1) * step) * (1 + 1e-9)


@given(MEASURED, st.floats(0.0, 20.0), st.integers(0, 600), st.integers(0, 4000))
def test_rows_within_is_the_most_that_fits(
    measured: dict[int, float], budget_s: float, limit: int, used_cells: int
) -> None:
    cost = StepCost(measured, cell_s=CELL_S)
    rows = cost.rows_within(budget_s, limit, used_cells=used_cells)
    assert 0 <= rows <= limit
    assert cost.seconds(rows, used_cells=used_cells) <= budget_s
    if rows < limit:
        assert cost.seconds(rows + 1, used_cells=used_cells) > budget_s


# Tiles


def test_a_fourth_row_that_is_about_free_makes_a_tile() -> None:
    assert StepCost(TILED).tile == TILE
    assert StepCost(TILED | {4: 0.030}).tile == TILE


@pytest.mark.parametrize(
    "measured", [TILED | {4: 0.040}, {1: 0.019, 4: 0.034}, {1: 0.02, 3: 0.02, 4: 0.02}]
)
def test_without_a_sign_of_tiles_there_are_none(measured: dict[int, float]) -> None:
    assert StepCost(measured).tile == 1


def test_rows_left_over_after_whole_tiles_cost_as_single_rows() -> None:
    cost = StepCost(TILED)
    assert cost.seconds(17) == pytest.approx(0.087 + 0.007)
    assert cost.seconds(15) > cost.seconds(16)


def test_a_budget_is_filled_with_the_whole_tile_that_a_row_less_would_exceed() -> None:
    cost = StepCost(TILED)
    assert cost.seconds(15) > 0.088
    assert cost.rows_within(0.088, 128) == 16


def test_filled_goes_up_to_the_tile_and_not_beyond_the_limit() -> None:
    cost = StepCost(TILED)
    assert [cost.filled(rows, 10) for rows in (0, 1, 4, 5, 8, 9)] == [0, 4, 4, 8, 8, 9]
    assert StepCost({1: 0.020}).filled(5, 10) == 5


# Outputs and depth


def test_rows_with_logits_cost_what_was_measured_beyond_those_without() -> None:
    cost = StepCost(TILED, all_sampled=ALL_SAMPLED)
    for rows in (2, 4, 8):
        assert cost.seconds(rows, sampled=rows) == pytest.approx(ALL_SAMPLED[rows])
        assert cost.seconds(rows, sampled=1) == pytest.approx(TILED[rows])
    assert cost.seconds(16, sampled=4) == pytest.approx(0.087 + 0.009)
    assert cost.seconds(16, sampled=16) > cost.seconds(16, sampled=8)


def test_no_more_rows_are_sampled_than_there_are() -> None:
    cost = StepCost(TILED, all_sampled=ALL_SAMPLED)
    assert cost.seconds(2, sampled=8) == cost.seconds(2, sampled=2)


def test_used_cells_cost_by_the_rows_and_two_more() -> None:
    cost = StepCost(TILED, cell_s=CELL_S)
    assert cost.seconds(1, used_cells=1000) == pytest.approx(0.019 + 3 * 0.0012)
    assert cost.seconds(16, used_cells=1000) == pytest.approx(0.087 + 18 * 0.0012)
    assert cost.seconds(0, used_cells=1000) == 0.0


def test_decode_rows_and_used_cells_take_their_part_of_the_budget() -> None:
    cost = StepCost(TILED, all_sampled=ALL_SAMPLED, cell_s=CELL_S)
    rows = cost.rows_within(0.120, 128)
    assert cost.rows_within(0.120, 128, sampled=8) < rows
    assert cost.rows_within(0.120, 128, used_cells=2000) < rows


def observe_depths(cost: StepCost, cell_s: float, depths: list[int], slower: float = 1.0) -> None:
    truth = StepCost(TILED, cell_s=cell_s)
    for depth in depths:
        cost.observe(1, truth.seconds(1, used_cells=depth) * slower, used_cells=depth)


@pytest.mark.parametrize("start_s", [0.0, CELL_S / 3, CELL_S * 3])
def test_the_slope_is_learnt_from_steps_at_changing_depths(start_s: float) -> None:
    cost = StepCost(TILED, cell_s=start_s)
    observe_depths(cost, CELL_S, [100, 3000, 800, 4000, 1500] * 40)
    assert cost.cell_s == pytest.approx(CELL_S, rel=0.15)
    assert cost.seconds(1, used_cells=6000) == pytest.approx(0.019 + 3 * 6000 * CELL_S, rel=0.15)


def test_a_slower_machine_is_a_correction_and_not_a_slope() -> None:
    cost = StepCost(TILED, cell_s=CELL_S)
    observe_depths(cost, CELL_S, [100, 3000, 800, 4000, 1500] * 40, slower=2.0)
    assert cost.cell_s == pytest.approx(CELL_S, rel=0.15)
    assert cost.correction == pytest.approx(2.0, rel=0.1)


def test_one_disturbed_step_hardly_moves_the_slope() -> None:
    cost = StepCost(TILED, cell_s=CELL_S)
    observe_depths(cost, CELL_S, [100, 3000] * 5)
    cost.observe(1, 60.0, used_cells=4000)
    assert cost.cell_s < CELL_S * 1.6


# Speculation


def test_speculation_pays_where_drafts_are_accepted_and_costs_where_not() -> None:
    cost = StepCost(TILED, all_sampled=ALL_SAMPLED)
    assert cost.speculation_gain(3, 1.0) == pytest.approx(4 * 0.019 / 0.043)
    assert cost.speculation_gain(3, 0.0) == pytest.approx(0.019 / 0.043)
    assert cost.speculation_gain(3, 0.5) == pytest.approx((1 + 0.5 + 0.25 + 0.125) * 0.019 / 0.043)
    assert cost.speculation_gain(0, 0.9) == pytest.approx(1.0)


def test_drafts_of_one_stream_slow_down_the_others_in_the_step() -> None:
    cost = StepCost(TILED, all_sampled=ALL_SAMPLED)
    assert cost.speculation_gain(4, 0.9, rows=4, sampled=4) < cost.speculation_gain(3, 0.9)


# Kept


def test_a_table_comes_back_from_json_as_it_was() -> None:
    cost = StepCost(TILED, all_sampled=ALL_SAMPLED, cell_s=CELL_S)
    again = StepCost.from_map(json.loads(json.dumps(cost.to_map())))
    for rows in (1, 2, 3, 5, 16, 100):
        assert again.seconds(rows, 2, 700) == cost.seconds(rows, 2, 700)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": {}},
        {"rows": {"0": 1.0}},
        {"rows": {"1": float("nan")}},
        {"rows": {"1": -1.0}},
        {"rows": {"1": 1e9}},
        {"all_sampled": {"x": 1.0}},
        {"cell_s": -1.0},
        {"cell_s": float("nan")},
    ],
)
def test_nonsense_is_no_table(change: dict[str, Any]) -> None:
    kept = StepCost(TILED, cell_s=CELL_S).to_map() | change
    with pytest.raises(ValueError, match=r"no .*table|could not|invalid literal"):
        StepCost.from_map(kept)


# Corrected


def test_it_follows_a_machine_that_became_slower_and_back() -> None:
    cost = StepCost({1: 0.020})
    for _ in range(60):
        cost.observe(1, 0.060)
    assert cost.seconds(1) == pytest.approx(0.060, rel=0.02)
    for _ in range(60):
        cost.observe(1, 0.020)
    assert cost.seconds(1) == pytest.approx(0.020, rel=0.02)


def test_one_step_that_was_descheduled_changes_little() -> None:
    cost = StepCost({1: 0.020})
    cost.observe(1, 60.0)
    assert cost.seconds(1) < 0.020 * 2


@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0.0, 1e6)), max_size=100))
def test_no_observation_moves_it_out_of_range(observed: list[tuple[int, float]]) -> None:
    cost = StepCost({1: 0.020, 16: 0.100})
    for rows, seconds in observed:
        cost.observe(rows, seconds)
    assert CORRECTION_RANGE[0] <= cost.correction <= CORRECTION_RANGE[1]
