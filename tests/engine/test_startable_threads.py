"""How many threads can be started is tried, and nothing of the trial stays."""

from __future__ import annotations

import os
import threading

import pytest

from qwend.engine.startable_threads import startable_threads

pytestmark = pytest.mark.row("D6")


def tasks() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("wanted", [1, 2, 16])
def test_without_a_limit_all_can_be_started_and_all_are_gone_again(wanted: int) -> None:
    before = tasks()
    assert startable_threads(wanted) == wanted
    assert tasks() == before


@pytest.mark.parametrize("most", [0, 1, 5])
def test_a_limit_leaves_so_many_and_the_one_that_asks(most: int) -> None:
    before = tasks()
    left = most

    def start(thread: threading.Thread) -> None:
        nonlocal left
        if not left:
            raise RuntimeError("can't start new thread")
        left -= 1
        thread.start()

    assert startable_threads(8, start) == most + 1
    assert tasks() == before
