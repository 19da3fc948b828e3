"""Since when requests have had no credit: whoever takes some begins anew."""

from __future__ import annotations

from qwend.daemon.journal import Entry
from qwend.daemon.stalled import Stalled
from tests.daemon.fakes import FakeOwner, entry_of

PATIENCE_S = 10.0


def entry(allowance: int | None, produced: int, *, forwarded: bool = True) -> Entry:
    found = entry_of(FakeOwner(), allowance=allowance, forwarded=forwarded)
    found.so_far.tokens.extend(range(produced))
    return found


def test_only_who_has_a_place_and_no_credit_is_stalled() -> None:
    entries = [
        entry(None, 5),
        entry(9, 5),
        entry(5, 5, forwarded=False),
        (without := entry(5, 5)),
        (never := entry(0, 0)),
    ]
    stalled = Stalled()
    assert stalled.look(entries, 0.0, PATIENCE_S) == []
    assert stalled.look(entries, 9.9, PATIENCE_S) == []
    assert stalled.look(entries, 10.0, PATIENCE_S) == [without, never]


def test_the_longest_comes_first() -> None:
    first, second = entry(5, 5), entry(5, 5)
    stalled = Stalled()
    stalled.look([second], 0.0, PATIENCE_S)
    stalled.look([first, second], 5.0, PATIENCE_S)
    assert stalled.look([first, second], 20.0, PATIENCE_S) == [second, first]


def test_who_has_had_some_credit_meanwhile_is_not_stalled_though_it_is_used_up() -> None:
    one = entry(5, 5)
    stalled = Stalled()
    stalled.look([one], 0.0, PATIENCE_S)
    one.allowance = 6
    one.so_far.tokens.append(7)
    assert stalled.look([one], 10.0, PATIENCE_S) == []
    assert stalled.look([one], 20.0, PATIENCE_S) == [one]
