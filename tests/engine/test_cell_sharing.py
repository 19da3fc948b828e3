"""Who shares cells with whom: what is reserved and used, also when a source leaves."""

from __future__ import annotations

from random import Random

import pytest

from qwend.engine.cell_sharing import bequeath, followers, reserved_cells, used_cells
from qwend.engine.sequence import Sequence
from tests.support.engine import RecordingBackend
from tests.support.sequences import running_at


def leave(sequence: Sequence, running: list[Sequence]) -> Sequence | None:
    """The reservation never grows when somebody leaves."""
    before = reserved_cells(running)
    running.remove(sequence)
    heir = bequeath(sequence, running)
    assert reserved_cells(running) <= before
    assert all(one.source is None or one.source in running for one in running)
    assert (sequence.source, sequence.shared) == (None, 0)
    return heir


def test_cells_in_common_are_counted_once() -> None:
    first = running_at(0, 100, 100)
    second = running_at(1, 60, 60, source=first, shared=40)
    # Each answer of 10 tokens needs 9 cells: the last token is never computed.
    assert reserved_cells([first, second]) == 109 + 69 - 40
    assert used_cells([first, second]) == 120


def test_who_waits_for_its_source_uses_nothing_yet() -> None:
    first = running_at(0, 100, 30)
    second = running_at(1, 60, 0, source=first, shared=40)
    assert used_cells([first, second]) == 30
    assert reserved_cells([first, second]) == 109 + 29


def test_a_sequence_without_followers_leaves_no_heir() -> None:
    first, second = running_at(0, 100, 100), running_at(1, 60, 60)
    running = [first, second]
    assert leave(first, running) is None
    assert reserved_cells(running) == 69


def test_a_follower_that_leaves_changes_nothing_for_its_source() -> None:
    first = running_at(0, 100, 100)
    second = running_at(1, 60, 60, source=first, shared=40)
    running = [first, second]
    assert leave(second, running) is None
    assert reserved_cells(running) == 109


def test_the_only_follower_of_a_root_owns_its_cells_afterwards() -> None:
    first = running_at(0, 100, 100)
    second = running_at(1, 60, 60, source=first, shared=40)
    running = [first, second]
    assert leave(first, running) is second
    assert (second.source, second.shared) == (None, 0)
    assert (reserved_cells(running), used_cells(running)) == (69, 60)


def test_the_follower_with_most_in_common_becomes_the_source_of_the_others() -> None:
    root = running_at(0, 100, 100)
    little = running_at(1, 60, 60, source=root, shared=20)
    most = running_at(2, 60, 60, source=root, shared=50)
    some = running_at(3, 60, 60, source=root, shared=30)
    running = [root, little, most, some]
    assert leave(root, running) is most
    assert [(one.source, one.shared) for one in running] == [(most, 20), (None, 0), (most, 30)]
    assert used_cells(running) == 60 + 40 + 30


@pytest.mark.parametrize(("upper", "lower", "expected"), [(30, 50, 30), (50, 30, 30)])
def test_in_a_chain_the_heir_shares_no_more_than_both_links_do(
    upper: int, lower: int, expected: int
) -> None:
    root = running_at(0, 100, 100)
    middle = running_at(1, 100, 100, source=root, shared=upper)
    last = running_at(2, 100, 100, source=middle, shared=lower)
    running = [root, middle, last]
    assert leave(middle, running) is last
    assert (last.source, last.shared) == (root, expected)


def test_followers_are_those_who_name_the_source() -> None:
    root = running_at(0, 100, 100)
    middle = running_at(1, 100, 100, source=root, shared=50)
    last = running_at(2, 100, 100, source=middle, shared=50)
    assert followers(root, [root, middle, last]) == [middle]


@pytest.mark.parametrize("seed", range(30))
def test_in_any_tree_and_order_of_leaving_the_reservation_only_falls(seed: int) -> None:
    random = Random(seed)
    running: list[Sequence] = []
    for seq_id in range(8):
        source = random.choice([None, *running])
        known = random.randint(20, 120)
        shared = 0 if source is None else random.randint(16, min(known, len(source.prompt))) - 1
        running.append(running_at(seq_id, known, known, source=source, shared=shared))
    while running:
        assert used_cells(running) <= reserved_cells(running)
        leave(random.choice(running), running)


def test_the_scripted_model_has_a_shared_cell_once_until_its_last_owner_gives_it_up() -> None:
    # Its cells are what every test of the scheduler compares with: they must be llama.cpp's.
    backend = RecordingBackend(cells=8, sequences=3)
    backend.restore(0, backend_blob(range(6)))
    backend.share(0, 1, 4)
    backend.share(1, 2, 3)
    assert backend.used_cells == 6
    backend.trim(0, 0)
    assert backend.used_cells == 4
    backend.trim(1, 0)
    assert backend.used_cells == 3
    assert not backend.restore(0, backend_blob(range(6)))
    assert backend.cells[0] == []
    assert backend.restore(0, backend_blob(range(5)))
    assert backend.used_cells == 8


def backend_blob(tokens: range) -> bytes:
    donor = RecordingBackend()
    donor.cells[0] = list(tokens)
    return donor.save(0)
