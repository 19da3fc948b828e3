"""The queue: interactive before background, who has least running first, then in the order of
arrival; and patience has an end."""

from __future__ import annotations

import pytest

from qwend.engine.request import Priority
from qwend.engine.sequence import Sequence
from qwend.engine.waiting import BACKGROUND_PATIENCE_S, WaitingQueue, is_background
from tests.support.sequences import sequence_of

BACKGROUND = Priority.BACKGROUND
INTERACTIVE = Priority.INTERACTIVE


def queue_of(*sequences: Sequence, running: list[Sequence] | None = None) -> WaitingQueue:
    queue = WaitingQueue(running or [])
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


@pytest.mark.row("B6")
def test_the_user_who_has_fewest_running_goes_first() -> None:
    running = [sequence_of(uid=1), sequence_of(uid=1), sequence_of(uid=2)]
    flood, second, newcomer = (sequence_of(uid=uid, received=float(uid)) for uid in (1, 2, 3))
    assert order(queue_of(flood, second, newcomer, running=running), 3.0) == [
        newcomer,
        second,
        flood,
    ]


def test_who_runs_now_counts_and_not_who_ran_before() -> None:
    running = [sequence_of(uid=1)]
    first, other = sequence_of(uid=1, received=1.0), sequence_of(uid=2, received=2.0)
    queue = queue_of(first, other, running=running)
    assert queue.head(2.0) is other
    running.clear()
    assert queue.head(2.0) is first


def test_background_does_not_go_before_interactive_for_having_nothing_running() -> None:
    chat = sequence_of(uid=1, priority=INTERACTIVE)
    background = sequence_of(uid=2, priority=BACKGROUND)
    queue = queue_of(background, chat, running=[sequence_of(uid=1)])
    assert queue.head(0.0) is chat


def test_one_that_has_waited_long_enough_goes_by_its_arrival() -> None:
    flood = sequence_of(uid=1, received=0.0)
    newcomer = sequence_of(uid=2, received=5.0)
    queue = queue_of(flood, newcomer, running=[sequence_of(uid=1)])
    assert queue.head(BACKGROUND_PATIENCE_S - 0.001) is newcomer
    assert queue.head(BACKGROUND_PATIENCE_S) is flood


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
