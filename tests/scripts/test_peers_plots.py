from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.bench_support.peers.plots import draw_all, gaps, scenario_parts, typical_part


def part(side: str, gap_ms: float) -> dict[str, Any]:
    detail = {"arrivals_s": [0.0, 0.02, gap_ms / 1e3], "intruder_first_s": 0.5}
    return {"side": side, "figures": {"gap_ms": [gap_ms]}, "detail": detail}


PARTS = [part("qwend", 130.0), part("qwend", 110.0), part("qwend", 150.0), part("other", 1.0)]
RESULT = {
    "rows": [{"row": "B", "ours": 80.0, "theirs": 100.0}, {"row": "E gap", "ours": 1, "theirs": 2}],
    "scenarios": [{"scenario": "E", "parts": PARTS}, {"scenario": "B", "parts": []}],
    "step_ms": {"a step": {"1": 18.0, "64": 320.0, "4": 34.0}},
}


def test_a_gap_stands_where_it_ended() -> None:
    at, gap = gaps([0.0, 0.5, 2.0])
    assert (at, gap) == ([0.5, 2.0], [500.0, 1500.0])


def test_the_turn_with_the_median_is_drawn() -> None:
    assert typical_part(PARTS, "qwend", "gap_ms") is PARTS[0]
    assert typical_part(PARTS, "other", "gap_ms") is PARTS[3]
    assert typical_part(PARTS, "nobody", "gap_ms") is None


def test_parts_are_found_by_the_letter_of_their_scenario() -> None:
    assert scenario_parts(RESULT, "E") == PARTS
    assert scenario_parts(RESULT, "L") == []


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert draw_all({"rows": [], "scenarios": []}, tmp_path) == []


def test_the_same_result_gives_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    once, again = draw_all(RESULT, tmp_path / "a"), draw_all(RESULT, tmp_path / "b")
    assert [file.name for file in once] == ["intruder.svg", "ttft.svg", "step-cost.svg"]
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in again]
