from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.bench_support.peers.target import Row, judge

LESS = Row(
    "B",
    "TTFT",
    "ms",
    ("qwend", "ttft_ms"),
    {"as shipped": ("shipped", "ttft_ms"), "tuned": ("tuned", "ttft_ms")},
    ratio=0.95,
)
MORE = replace(LESS, unit="tokens/s", more_is_better=True, ratio=1.05)


def figures(ours: list[float], shipped: list[float], tuned: list[float]) -> dict:  # type: ignore[type-arg]
    return {
        ("qwend", "ttft_ms"): ours,
        ("shipped", "ttft_ms"): shipped,
        ("tuned", "ttft_ms"): tuned,
    }


@pytest.mark.parametrize(
    ("row", "variant", "ratio"), [(LESS, "tuned", 1.5), (MORE, "as shipped", 1)]
)
def test_the_better_variant_is_what_ours_is_compared_with(
    row: Row, variant: str, ratio: float
) -> None:
    verdict = judge(row, figures([30, 30, 31], [30, 29, 31], [20, 21, 1]))
    assert (verdict.theirs_name, verdict.ratio) == (variant, ratio)


def test_the_ratio_is_that_of_the_medians() -> None:
    verdict = judge(LESS, figures([1, 9, 1000], [10, 10, 10], [20, 20, 20]))
    assert verdict.ratio == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("row", "ours", "held"),
    [(LESS, 95, True), (LESS, 96, False), (MORE, 105, True), (MORE, 104, False)],
)
def test_a_target_is_held_up_to_its_bound(row: Row, ours: float, held: bool) -> None:
    rival = 100.0
    verdict = judge(row, figures([ours], [rival], [rival]))
    assert verdict.held is held


def test_a_bound_of_ours_alone_must_hold_as_well() -> None:
    row = replace(LESS, at_most=15.0)
    assert judge(row, figures([15], [100], [100])).held is True
    assert judge(row, figures([16], [100], [100])).held is False


def test_without_a_peer_a_ratio_is_neither_held_nor_missed() -> None:
    values = {("qwend", "ttft_ms"): [14.0]}
    assert judge(LESS, values).held is None
    assert judge(replace(LESS, at_most=15.0), values).held is None
    assert judge(replace(LESS, at_most=13.0), values).held is False
    assert judge(replace(LESS, ratio=None, at_most=15.0), values).held is True


def test_without_figures_of_ours_nothing_is_judged() -> None:
    verdict = judge(LESS, {}, "not available")
    assert (verdict.ours, verdict.held, verdict.note) == (None, None, "not available")


def test_a_rival_that_made_nothing_gives_no_ratio() -> None:
    verdict = judge(MORE, figures([20], [0], [0]))
    assert (verdict.ratio, verdict.held) == (None, None)


def test_a_row_may_speak_of_a_percentile() -> None:
    row = replace(LESS, ratio=None, at_most=20.0, percent=99)
    sample = [1.0] * 98 + [20.0, 50.0]
    assert judge(row, {row.ours: sample}).held is True
    assert judge(row, {row.ours: [*sample, 50.0]}).held is False


def test_the_target_is_said_in_words() -> None:
    assert replace(LESS, at_most=15.0).target == "≤ 15 ms and ≤ 0.95"
    assert MORE.target == "≥ 1.05"
