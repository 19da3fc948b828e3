"""The cost table: linear between measurements, only ever rising, corrected as it runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.step_cost import CORRECTION_RANGE, StepCost

MEASURED = st.dictionaries(st.integers(1, 512), st.floats(1e-6, 10.0), min_size=1, max_size=8)


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
    assert cost.seconds(rows) <= cost.seconds(rows + 1) * (1 + 1e-9)


@given(MEASURED, st.floats(0.0, 20.0), st.integers(0, 600))
def test_rows_within_is_the_most_that_fits(
    measured: dict[int, float], budget_s: float, limit: int
) -> None:
    cost = StepCost(measured)
    rows = cost.rows_within(budget_s, limit)
    assert 0 <= rows <= limit
    assert cost.seconds(rows) <= budget_s
    if rows < limit:
        assert cost.seconds(rows + 1) > budget_s


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
