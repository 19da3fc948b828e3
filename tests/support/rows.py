"""How much of a row of docs/reliability.md a test does: a little each time, all of it on demand."""

from __future__ import annotations

import os

FULL = os.environ.get("ROWS") == "full"


def times(few: int, full: int) -> int:
    """`ROWS=full pytest -m row` does what the row says, and takes minutes."""
    return full if FULL else few


def reached(row: str, figure: str) -> None:
    """What `pytest -s` shows of it."""
    print(f"\n{row}: {figure}")
