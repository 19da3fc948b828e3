from __future__ import annotations

from dataclasses import replace

from scripts.bench_support.peers.table import table
from scripts.bench_support.peers.target import Row, judge

ROW = Row("B", "TTFT, cached", "ms", ("qwend", "ttft"), {"tuned": ("tuned", "ttft")}, ratio=0.95)
VALUES = {("qwend", "ttft"): [90.0, 80.0, 104.2], ("tuned", "ttft"): [9.5, 9.25, 10.0]}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_line_has_median_spread_variant_ratio_and_verdict() -> None:
    *_, line = table([judge(ROW, VALUES)]).splitlines()
    assert cells(line) == [
        "B",
        "TTFT, cached",
        "90.0 ms (80.0-104.2)",
        "9.50 ms (9.25-10.00), tuned",
        "9.47",
        "≤ 0.95",
        "**no**",
    ]


def test_all_lines_are_equally_long() -> None:
    lines = table([judge(ROW, VALUES), judge(replace(ROW, text="x"), {}, "why")]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 4


def test_what_was_not_measured_says_why() -> None:
    *_, line = table([judge(ROW, {}, "no drafter yet")]).splitlines()
    assert cells(line)[2] == "no drafter yet"
    assert cells(line)[-1] == "-"


def test_a_percentile_is_named_with_the_size_of_its_sample() -> None:
    row = replace(ROW, percent=99, ratio=None, at_most=20.0)
    *_, line = table([judge(row, {row.ours: [1.0, 2.0, 12.0]})]).splitlines()
    assert cells(line)[2] == "12.0 ms (p99 of 3)"


def test_a_note_stands_beside_the_figure() -> None:
    *_, line = table([judge(ROW, VALUES, "1 of 5 turns disturbed")]).splitlines()
    assert cells(line)[2] == "90.0 ms (80.0-104.2); 1 of 5 turns disturbed"
