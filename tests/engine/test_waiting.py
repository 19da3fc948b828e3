"""The queue: interactive before background, in the order of arrival, and patience has an end."""

from __future__ import annotations

import pytest

from qwend.engine.request import Priority
from qwend.engine.sequence import Sequence
from qwend.engine.waiting import BACKGROUND_PATIENCE_S, WaitingQueue, is_background
from tests.support.sequences import sequence_of

BACKGROUND = Priority.BACKGROUND
INTERACTIVE = Priority.INTERACTIVE


def queue_of(*sequences: Sequence) -> WaitingQueue:
    queue = WaitingQueue()
    for one in sequences:
        queue.add(one)
    return queue


def order(queue: WaitingQueue, now: float) -> list[Sequence]:
    """Everyone in the order in which the queue lets them go."""
    gone = []
    while (head := queue.head(now)) is not None:
        assert next(iter(queue)) is head
        queue.remove(head)
        gone.append(head)
    return gone


def test_an_empty_queue_has_no_head() -> None:
    queue = WaitingQueue()
    assert queue.head(0.0) is None
    assert len(queue) == 0


def test_who_came_first_goes_first_however_they_were_added() -> None:
    late, early = sequence_of(received=2.0), sequence_of(received=1.0)
    assert order(queue_of(late, early), 3.0) == [early, late]


def test_of_two_that_came_at_once_the_lower_id_goes_first() -> None:
    first, second = sequence_of(id=1), sequence_of(id=2)
    assert order(queue_of(second, first), 0.0) == [first, second]


def test_interactive_goes_before_background_that_came_earlier() -> None:
    background = sequence_of(priority=BACKGROUND, received=0.0)
    chat = sequence_of(priority=INTERACTIVE, received=5.0)
    assert order(queue_of(background, chat), 5.0) == [chat, background]


def test_a_large_request_at_the_head_is_not_overtaken_by_a_small_one() -> None:
    large = sequence_of(range(500), received=0.0)
    small = sequence_of(received=1.0)
    assert order(queue_of(small, large), 1.0) == [large, small]


def test_background_that_has_waited_long_enough_keeps_its_place_by_arrival() -> None:
    background = sequence_of(priority=BACKGROUND, received=0.0)
    chat = sequence_of(priority=INTERACTIVE, received=1.0)
    queue = queue_of(chat, background)
    assert queue.head(BACKGROUND_PATIENCE_S - 0.001) is chat
    assert queue.head(BACKGROUND_PATIENCE_S) is background


@pytest.mark.parametrize(
    ("priority", "waited", "expected"),
    [
        (INTERACTIVE, 0.0, False),
        (INTERACTIVE, 100.0, False),
        (BACKGROUND, 0.0, True),
        (BACKGROUND, BACKGROUND_PATIENCE_S - 0.001, True),
        (BACKGROUND, BACKGROUND_PATIENCE_S, False),
        # A clock that is behind the front's: it has not waited at all.
        (BACKGROUND, -1.0, True),
    ],
)
def test_background_counts_as_interactive_once_its_patience_ends(
    priority: Priority, waited: float, expected: bool
) -> None:
    sequence = sequence_of(priority=priority, received=50.0)
    assert is_background(sequence, 50.0 + waited) is expected


def test_the_queue_iterates_in_the_order_of_turns() -> None:
    background = sequence_of(priority=BACKGROUND, received=0.0)
    second = sequence_of(received=2.0)
    first = sequence_of(received=1.0)
    queue = queue_of(background, second, first)
    queue.head(2.0)
    assert list(queue) == [first, second, background]
