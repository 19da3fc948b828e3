"""docs/reliability.md and the tests agree: what a row names shows it, and no other is shown."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reliability.md"
TESTS = ROOT / "tests"
# The rows of each group of the catalogue, from 1 on.
GROUPS = {"A": 9, "B": 8, "C": 6, "D": 9, "E": 5, "F": 10, "G": 6, "H": 4, "I": 7, "J": 2}
NOT_RUN = "not run: "


@dataclass(frozen=True, slots=True)
class Row:
    """reached, shown: as they are on the page."""

    name: str
    bar: str
    reached: str
    shown: str

    @property
    def files(self) -> list[str]:
        """Below tests/."""
        return re.findall(r"`([\w/]+\.py)`", self.shown)


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| [A-Z]\d+ \|", line):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert len(cells) == 4, f"a row has four cells: {line}"
            found.append(Row(*cells))
    return found


def marked() -> dict[str, set[str]]:
    """Row -> the files below tests/ with a test that is marked with it."""
    found = defaultdict(set)
    for path in TESTS.rglob("test_*.py"):
        for marks in re.findall(r"mark\.row\(([^)]*)\)", path.read_text(encoding="utf-8")):
            for name in re.findall(r'"(\w+)"', marks):
                found[name].add(path.relative_to(TESTS).as_posix())
    return found


ROWS = rows()
MARKED = marked()


def test_the_page_has_every_row_once_and_in_order() -> None:
    expected = [f"{group}{at}" for group, most in GROUPS.items() for at in range(1, most + 1)]
    assert [row.name for row in ROWS] == expected


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_shown_by_tests_that_bear_its_name_or_says_why_not(row: Row) -> None:
    assert row.bar
    if row.shown.startswith(NOT_RUN):
        assert not row.files
        assert len(row.shown) > len(NOT_RUN)
        assert row.name not in MARKED, "it is shown after all, and the page does not say so"
        return
    assert row.reached
    assert row.files
    for name in row.files:
        assert name in MARKED[row.name], f"{name} has no test that is marked {row.name}"


def test_every_name_that_a_test_bears_is_a_row() -> None:
    assert set(MARKED) <= {row.name for row in ROWS}
