from __future__ import annotations

import pytest

from scripts.bench_support.spread import Spread


def test_a_percentile_is_a_value_that_was_measured() -> None:
    spread = Spread.of([float(n) for n in range(1000, 0, -1)])
    assert [spread.percentile(p) for p in (1, 50, 95, 100)] == [10, 500, 950, 1000]
    assert Spread.of([7.0]).percentile(99) == 7.0
    assert Spread.of([1.0, 2.0]).percentile(0) == 1.0


def test_the_median_stands_with_both_ends() -> None:
    assert f"{Spread.of([3.0, 1.0, 2.0]):.1f}" == "2.0 (1.0-3.0)"
    assert Spread.of([3.0, 1.0]).as_map(95) == {
        "n": 2,
        "min": 1.0,
        "median": 2.0,
        "max": 3.0,
        "p95": 3.0,
    }


def test_nothing_has_no_spread() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Spread.of([])
