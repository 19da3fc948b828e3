"""The journal: every entry ends once, and how much it may produce until then."""

from __future__ import annotations

from array import array

import pytest

from qwend.daemon.journal import CREDIT_WINDOW, Journal
from qwend.engine.continuation import AnswerSoFar
from tests.daemon.fakes import FakeOwner, FakeTimer, entry_of


def after(tokens: int) -> AnswerSoFar:
    return AnswerSoFar(array("i", range(tokens)))


def test_an_entry_ends_once() -> None:
    journal = Journal()
    entry = entry_of(FakeOwner())
    journal.open(entry)
    assert journal.close(entry, failed=False)
    assert not journal.close(entry, failed=True)
    assert (journal.accepted, journal.done, journal.failed) == (1, 1, 0)
    assert len(journal) == 0


def test_a_failure_counts_as_one() -> None:
    journal = Journal()
    entry = entry_of(FakeOwner())
    journal.open(entry)
    journal.close(entry, failed=True)
    assert (journal.done, journal.failed) == (0, 1)


def test_the_end_stops_the_deadline() -> None:
    journal = Journal()
    timer = FakeTimer(5.0, lambda: None)
    entry = entry_of(FakeOwner(), deadline=timer)
    journal.open(entry)
    journal.close(entry, failed=False)
    assert timer.cancelled


def test_two_owners_may_use_the_same_id() -> None:
    journal = Journal()
    first, second = FakeOwner(), FakeOwner()
    entries = [entry_of(first, 7), entry_of(second, 7)]
    for entry in entries:
        journal.open(entry)
    assert journal.of_client(first, 7) is entries[0]
    assert journal.of_client(second, 7) is entries[1]
    assert journal.of_owner(second) == [entries[1]]


def test_an_id_is_free_again_after_the_end() -> None:
    journal = Journal()
    owner = FakeOwner()
    entry = entry_of(owner, 7)
    journal.open(entry)
    journal.close(entry, failed=False)
    assert journal.of_client(owner, 7) is None
    assert journal.find(entry.id) is None


def test_entries_may_end_while_they_are_gone_through() -> None:
    journal = Journal()
    for client_id in range(3):
        journal.open(entry_of(FakeOwner(), client_id))
    for entry in journal:
        journal.close(entry, failed=False)
    assert len(journal) == 0


@pytest.mark.parametrize(
    ("allowance", "granted", "produced", "expected"),
    [
        # as fast as the client reads: half a window at a time
        (None, 64, 0, 0),
        (None, 64, 31, 0),
        (None, 64, 32, 32),
        (None, 64, 64, 64),
        # the client's own allowance
        (0, 0, 0, 0),
        (3, 0, 0, 3),
        (3, 3, 0, 0),
        (3, 3, 3, 0),
        (8, 3, 2, 0),
        (8, 3, 3, 5),
        (1000, 64, 31, 0),
        (1000, 64, 40, 40),
        (100, 64, 64, 36),
        (2**31, 64, 64, 64),
        # text that was held back came out all at once, past what was granted
        (8, 3, 5, 5),
    ],
)
def test_the_grant_fills_the_window_within_the_allowance(
    allowance: int | None, granted: int, produced: int, expected: int
) -> None:
    assert CREDIT_WINDOW == 64
    entry = entry_of(FakeOwner(), allowance=allowance, granted=granted, so_far=after(produced))
    assert entry.next_grant() == expected


def test_a_congested_owner_is_granted_nothing() -> None:
    owner = FakeOwner(congested=True)
    entry = entry_of(owner, granted=64, so_far=after(64))
    assert entry.next_grant() == 0
    owner.congested = False
    assert entry.next_grant() == 64
