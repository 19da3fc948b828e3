"""Which request the engine died of, and who only was beside it. F1"""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from qwend.daemon.blame import GETS_ON_TOKENS, QUARANTINE_S, Blame
from qwend.daemon.journal import Entry
from tests.daemon.fakes import FakeOwner, FakeTimers, entry_of

pytestmark = pytest.mark.row("F1")


@pytest.fixture
def timers() -> FakeTimers:
    return FakeTimers()


@pytest.fixture
def blame(timers: FakeTimers) -> Blame:
    return Blame(timers.clock)


def some(count: int) -> list[Entry]:
    entries = [entry_of(FakeOwner(), number, granted=64) for number in range(count)]
    for entry in entries:
        entry.request = replace(entry.request, text=f"prompt {entry.client_id}")
    return entries


def produce(entry: Entry, tokens: int) -> None:
    entry.so_far.tokens.extend(array("i", range(tokens)))


def test_one_death_is_nobodys_fault(blame: Blame) -> None:
    (entry,) = some(1)
    assert blame.died([entry]) is None
    assert not blame.refuses(entry.request)
    assert not blame.holds(entry)


def test_one_that_is_alone_in_two_deaths_is_the_culprit(blame: Blame) -> None:
    (entry,) = some(1)
    blame.died([entry])
    assert blame.died([entry]) is entry


def test_one_that_has_got_on_between_two_deaths_is_not(blame: Blame) -> None:
    (entry,) = some(1)
    for _ in range(5):
        assert blame.died([entry]) is None
        produce(entry, GETS_ON_TOKENS)


def test_the_one_of_two_deaths_is_the_culprit_whoever_else_was_there(blame: Blame) -> None:
    poison, first, second = some(3)
    blame.died([poison, first])
    assert blame.died([poison, second]) is poison


def test_several_take_turns_until_it_is_known(blame: Blame) -> None:
    first, poison, third, late = some(4)
    together = [first, poison, third]
    assert blame.died(together) is None
    assert blame.died(together) is None
    assert [blame.holds(one) for one in (*together, late)] == [False, True, True, False]
    produce(first, GETS_ON_TOKENS - 1)
    assert blame.next_turn(first, over=False) is None
    produce(first, 1)
    assert blame.next_turn(first, over=False) is poison
    assert blame.died([first, poison, late]) is poison
    assert not blame.refuses(first.request)
    assert blame.whose_turn() is third
    assert not blame.holds(third)


def test_the_end_of_one_is_the_turn_of_the_next(blame: Blame) -> None:
    first, second, third = some(3)
    for _ in range(2):
        blame.died([first, second, third])
    assert blame.next_turn(second, over=True) is None  # cancelled before its turn
    assert blame.next_turn(first, over=True) is third
    assert blame.next_turn(third, over=True) is None
    assert blame.whose_turn() is None


def test_its_like_is_refused_for_a_while_whoever_asks(blame: Blame, timers: FakeTimers) -> None:
    poison, other = some(2)
    for _ in range(2):
        blame.died([poison])
    sampling = replace(poison.request.sampling, seed=9)
    same = replace(poison.request, id=77, uid=5, received_s=1.0, credit=3, sampling=sampling)
    assert blame.refuses(same)
    assert not blame.refuses(other.request)
    assert not blame.refuses(replace(same, max_tokens=3))
    timers.advance(QUARANTINE_S)
    assert not blame.refuses(same)
