"""Which prompts get how many rows of a step."""

from __future__ import annotations

import pytest

from qwend.engine.prefill_plan import prefill_shares
from qwend.engine.request import Kind, Priority
from qwend.engine.sequence import Sequence, State
from qwend.engine.waiting import BACKGROUND_PATIENCE_S
from tests.support.sequences import running_at

BACKGROUND = Priority.BACKGROUND


def shares(running: list[Sequence], rows: int, now: float = 0.0) -> dict[int, int]:
    """Rows by seq_id; never more than there are, nor more than anyone can take."""
    given = prefill_shares(running, rows, now)
    assert sum(count for _, count in given) <= max(rows, 0)
    assert all(0 < count <= one.ready_prefill for one, count in given)
    assert [one for one, _ in given] == [one for one in running if one in [two for two, _ in given]]
    return {one.seq_id: count for one, count in given}


@pytest.mark.parametrize(("rows", "expected"), [(0, {}), (-3, {}), (7, {0: 7}), (500, {0: 100})])
def test_one_prompt_takes_what_there_is(rows: int, expected: dict[int, int]) -> None:
    assert shares([running_at(0, 100, 0)], rows) == expected


def test_nobody_to_serve_takes_nothing() -> None:
    assert shares([], 64) == {}


def test_the_shortest_takes_half_and_the_oldest_the_rest() -> None:
    running = [running_at(0, 200, 0), running_at(1, 300, 0), running_at(2, 100, 0)]
    assert shares(running, 64) == {0: 32, 2: 32}


def test_what_the_shortest_does_not_need_goes_by_age() -> None:
    running = [running_at(0, 200, 190), running_at(1, 300, 0), running_at(2, 100, 95)]
    assert shares(running, 64) == {0: 10, 1: 49, 2: 5}


def test_a_single_row_goes_to_the_shortest() -> None:
    assert shares([running_at(0, 200, 0), running_at(1, 100, 0)], 1) == {1: 1}


def test_long_prompts_move_however_many_short_ones_there_are() -> None:
    running = [running_at(0, 1000, 0), *(running_at(one, 20, 0) for one in range(1, 6))]
    assert shares(running, 16)[0] == 8


def test_background_gets_what_interactive_prompts_leave() -> None:
    running = [running_at(0, 10, 0, priority=BACKGROUND), running_at(1, 100, 60)]
    assert shares(running, 32) == {1: 32}
    assert shares(running, 45) == {0: 5, 1: 40}


def test_background_that_has_waited_long_enough_is_served_like_interactive() -> None:
    running = [running_at(0, 10, 0, priority=BACKGROUND), running_at(1, 100, 0)]
    assert shares(running, 32, BACKGROUND_PATIENCE_S) == {0: 10, 1: 22}


def test_who_waits_to_join_gets_no_row() -> None:
    source = running_at(0, 100, 0)
    joins = running_at(1, 50, 0, source=source, shared=40)
    assert shares([source, joins], 64) == {0: 64}


def test_who_decodes_or_is_over_gets_no_row() -> None:
    decodes, over = running_at(0, 100, 100), running_at(1, 100, 50)
    decodes.state, over.state = State.DECODE, State.FINISHED
    assert shares([decodes, over], 64) == {}


def test_without_credit_the_last_token_of_a_prompt_waits() -> None:
    assert shares([running_at(0, 100, 98, credit=0)], 64) == {0: 1}
    assert shares([running_at(0, 100, 99, credit=0)], 64) == {}


def test_a_prefill_needs_no_credit() -> None:
    assert shares([running_at(0, 100, 99, credit=0, kind=Kind.PREFILL)], 64) == {0: 1}


def test_a_step_ends_at_the_checkpoint() -> None:
    sequence = running_at(0, 100, 0)
    sequence.checkpoint = 70
    assert shares([sequence], 90) == {0: 70}
    sequence.computed = 70
    assert shares([sequence], 90) == {0: 30}


def test_background_that_computes_what_an_interactive_one_waits_for_is_as_urgent() -> None:
    leader = running_at(0, 100, 0, priority=BACKGROUND)
    between = running_at(1, 80, 0, source=leader, shared=60, priority=BACKGROUND)
    chat = running_at(2, 70, 0, source=between, shared=50)
    other = running_at(3, 500, 0)
    # The shortest and the oldest, while the other would have had all as the only interactive one.
    assert shares([leader, between, chat, other], 32) == {0: 32}
    chat.joins = False
    assert shares([leader, between, other], 32) == {3: 32}
