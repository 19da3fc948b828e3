"""How a sequence comes by what others have computed, or are computing: shared, joined, restored.

1. A leader computes a prefix, others that need it wait and join.
2. The leader goes: cancelled, failed, preempted or finished, before or after they could join.
3. After every operation the accounting is right and the cells are what it says.
Expected: everyone ends with its own tokens in its cells, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as SequenceOf
from random import Random
from typing import Any

import pytest

from qwend.engine.batch import Batch
from qwend.engine.prefix_cache import MIN_TOKENS, PrefixCache
from qwend.engine.request import PUBLIC_UID, Kind, Priority
from qwend.engine.scheduler import Scheduler
from qwend.engine.sequence import Sequence, State
from qwend.engine.step_cost import StepCost
from tests.support.engine import RecordingBackend
from tests.support.sequences import sequence_of

LONG = tuple(range(100))
ROWS = 20
NOW = 1.0


class Stage:
    """A scheduler over scripted cells that is checked after every operation."""

    def __init__(self, *, prefix_bytes: int = 1 << 20, **settings: Any) -> None:
        self.backend = RecordingBackend(**({"batch_rows": ROWS} | settings))
        self.cache = PrefixCache(prefix_bytes, whole_only=not self.backend.facts.can_trim)
        self.scheduler = Scheduler(self.backend, self.cache, StepCost({1: 1e-9}), 0.120)

    def start(self, prompt: SequenceOf[int], **fields: Any) -> Sequence:
        """It is admitted at once, or the test is wrong."""
        sequence = sequence_of(prompt, **fields)
        self.scheduler.add(sequence)
        assert self.scheduler.admit(NOW) == [sequence]
        self.check()
        return sequence

    def step(self) -> Batch | None:
        """Schedule, decode, commit; each sampled sequence gets token 7, or ends with its prompt."""
        batch = self.scheduler.schedule(NOW)
        if batch is not None:
            self.backend.decode(batch)
            for sequence, _ in self.scheduler.commit(batch):
                if len(sequence.answer) < sequence.max_tokens:
                    sequence.answer.append(7)
                if len(sequence.answer) == sequence.max_tokens:
                    sequence.state = State.FINISHED
        self.check()
        return batch

    def settle(self) -> None:
        """Take out who has ended, as the engine does."""
        for sequence in list(self.scheduler.running):
            if sequence.state is State.FINISHED or sequence.prefilled:
                self.leave(sequence, "finish")

    def leave(self, sequence: Sequence, way: str) -> None:
        before = self.scheduler.reserved_cells
        if way == "preempt":
            self.scheduler.preempt(sequence, 0.0)
        else:
            self.scheduler.remove(sequence, keep_prefix=way != "fail")
        assert self.scheduler.reserved_cells <= before, "the reservation grew"
        self.check()

    def check(self) -> None:
        self.scheduler.check_integrity()
        self.cache.check_integrity()
        assert self.backend.used_cells == self.scheduler.used_cells
        assert self.backend.used_cells <= self.scheduler.reserved_cells
        for one in self.scheduler.running:
            assert self.backend.cells[one.seq_id] == list(one.tokens[: one.computed])

    def run(self) -> None:
        for _ in range(300):
            self.settle()
            self.scheduler.admit(NOW)
            self.check()
            if self.scheduler.idle(NOW) and not self.scheduler.running:
                return
            self.step()
        raise AssertionError("somebody waits for ever")

    @property
    def rows(self) -> int:
        return sum(map(len, self.backend.batches))


def follower_prompt(number: int, common: int) -> tuple[int, ...]:
    return (*LONG[:common], 200 + number, 210 + number)


LEAVING = ("cancel", "fail", "preempt")


@pytest.mark.parametrize("followers", [0, 1, 2, 3])
@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5])
@pytest.mark.parametrize("way", LEAVING)
def test_the_leader_goes_and_its_followers_go_on(way: str, steps: int, followers: int) -> None:
    # The common parts are 50, 65 and 80 tokens; a step is 20 rows.
    stage = Stage()
    leader = stage.start(LONG)
    joined = [stage.start(follower_prompt(number, 50 + 15 * number)) for number in range(followers)]
    assert all(one.joins for one in joined)
    for _ in range(steps):
        stage.step()
    stage.leave(leader, way)
    for _ in range(100):
        if all(one.state is State.FINISHED for one in joined):
            break
        stage.step()
    assert [one.tokens for one in joined] == [
        (*follower_prompt(number, 50 + 15 * number), *[7] * 10) for number in range(followers)
    ]
    stage.run()


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("way", LEAVING)
def test_what_the_leader_had_computed_is_not_computed_again(way: str, steps: int) -> None:
    stage = Stage(prefix_bytes=0)
    leader = stage.start(LONG)
    follower = stage.start((*LONG[:70], 250), max_tokens=1)
    for _ in range(steps):
        stage.step()
    had = min(leader.computed, 70)
    stage.leave(leader, way)
    while follower.state is not State.FINISHED:
        assert stage.step() is not None
    assert follower.cached == had


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 0, 2, 3), (2, 1, 0, 3), (1, 2, 0, 3)])
@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("way", LEAVING)
def test_a_chain_of_followers_outlives_any_of_its_links(
    way: str, steps: int, order: tuple[int, ...]
) -> None:
    # Each has more in common with the one before it than with those before that.
    prompts = [
        LONG,
        (*LONG[:60], *range(101, 141)),
        (*LONG[:60], *range(101, 131), 160, 161),
        (*LONG[:60], *range(101, 121), 170, 171),
    ]
    stage = Stage(prefix_bytes=0, cells=400)
    chain = [stage.start(prompt) for prompt in prompts]
    assert [one.source for one in chain] == [None, *chain[:2], chain[1]]
    for _ in range(steps):
        stage.step()
    for place in order[:3]:
        stage.leave(chain[place], way)
        stage.step()
    last = chain[order[3]]
    for _ in range(100):
        if last.state is State.FINISHED:
            break
        stage.step()
    assert last.tokens == (*prompts[order[3]], *[7] * 10)


def test_a_leader_that_finished_has_all_that_its_followers_wait_for() -> None:
    stage = Stage(batch_rows=200)
    leader = stage.start(LONG, kind=Kind.PREFILL)
    follower = stage.start((*LONG, 250), max_tokens=1)
    stage.step()
    stage.settle()
    assert leader.state is State.FINISHED
    assert (follower.joins, follower.cached) == (False, 100)
    batch = stage.step()
    assert batch is not None
    assert len(batch) == 1


def test_four_with_the_same_cold_prompt_compute_it_once() -> None:
    stage = Stage()
    everyone = [stage.start((*LONG, 200 + number), max_tokens=1) for number in range(4)]
    stage.run()
    assert [one.cached for one in everyone] == [0, 100, 100, 100]
    assert stage.rows == 100 + 4


def test_followers_fit_where_their_common_cells_are_counted_once() -> None:
    # Equal prompts of 100 and answers of 10: 109 cells for the first, 109 - 99 for each other.
    stage = Stage(cells=240)
    first, second = stage.start(LONG), stage.start(LONG)
    assert stage.scheduler.reserved_cells == 109 + 10
    third = stage.start(LONG)
    assert stage.scheduler.reserved_cells == 109 + 20
    stage.run()
    assert [one.tokens[100:] for one in (first, second, third)] == [(7,) * 10] * 3


@pytest.mark.parametrize(
    ("owner", "asker", "joins"),
    [
        (1000, 1000, True),
        (PUBLIC_UID, 1000, True),
        (1000, 1001, False),
        (1000, PUBLIC_UID, False),
    ],
)
def test_a_prefix_in_the_making_is_for_its_uid_or_for_everyone_if_public(
    owner: int, asker: int, joins: bool
) -> None:
    stage = Stage()
    stage.start(LONG, uid=owner)
    other = stage.start(LONG, uid=asker)
    assert other.joins is joins
    stage.run()
    assert other.cached == (99 if joins else 0)
    assert bool(stage.backend.shared) is joins


@pytest.mark.parametrize(("common", "joins"), [(MIN_TOKENS - 1, False), (MIN_TOKENS, True)])
def test_a_prefix_that_is_too_short_is_not_waited_for(common: int, joins: bool) -> None:
    stage = Stage()
    stage.start(LONG)
    assert stage.start((*LONG[:common], 250)).joins is joins


def test_memory_that_cannot_be_trimmed_never_joins() -> None:
    stage = Stage(can_trim=False)
    stage.start(LONG)
    assert not stage.start((*LONG, 250)).joins


def test_a_leader_without_credit_computes_all_that_its_followers_wait_for() -> None:
    stage = Stage(batch_rows=200)
    leader = stage.start(LONG, credit=0)
    follower = stage.start((*LONG, 250), max_tokens=2)
    stage.step()
    assert leader.computed == 99
    # Nobody is ready for a row: were that all, the follower would wait for the leader's credit.
    assert not stage.scheduler.idle(NOW)
    stage.step()
    assert follower.cached == 99


def test_who_comes_by_more_from_a_copy_does_not_wait() -> None:
    stage = Stage()
    stage.start(LONG)
    stage.run()
    stage.backend.shared.clear()
    stage.start((*LONG[:30], 240), uid=1000)
    other = stage.start((*LONG[:80], 250))
    assert (other.joins, other.cached) == (False, 80)


def test_a_copy_that_is_no_better_than_a_prefix_in_the_making_is_left_alone() -> None:
    stage = Stage()
    stage.start(LONG[:50])
    stage.run()
    stage.backend.restored.clear()
    leader = stage.start((*LONG[:50], *range(150, 190)))
    stage.backend.restored.clear()
    follower = stage.start((*LONG[:50], 250))
    assert follower.source is leader
    assert stage.backend.restored == []


def test_cached_tokens_are_those_of_others_also_after_a_preemption() -> None:
    stage = Stage()
    sequence = stage.start(LONG)
    stage.step()
    stage.leave(sequence, "preempt")
    assert stage.scheduler.admit(NOW) == []
    assert (sequence.computed, sequence.cached) == (ROWS, 0)


def test_a_prefill_that_opens_the_answer_computes_its_last_token_for_the_logits() -> None:
    # All of it is in the cache, but what the answer begins with is not.
    stage = Stage()
    stage.start(LONG, kind=Kind.PREFILL)
    stage.run()
    again = stage.start(LONG, kind=Kind.PREFILL, partial=True)
    assert again.cached == 99
    batch = stage.step()
    assert batch is not None
    assert batch.sampled_rows == (0,)


def test_a_prefill_that_opens_the_answer_computes_its_last_token_when_it_joins() -> None:
    stage = Stage(batch_rows=200)
    stage.start(LONG, max_tokens=50)
    stage.step()
    joins = stage.start(LONG, kind=Kind.PREFILL, partial=True)
    assert joins.cached == 99
    batch = stage.step()
    assert batch is not None
    assert len(batch.sampled_rows) == 2


def test_with_its_opening_a_sequence_shares_all_of_a_running_prompt() -> None:
    stage = Stage(batch_rows=200)
    stage.start(LONG, max_tokens=50)
    stage.step()
    sequence = sequence_of(LONG)
    sequence.opening = b"x"
    stage.scheduler.add(sequence)
    stage.scheduler.admit(NOW)
    assert sequence.computed == 100
    stage.check()


def test_with_its_opening_a_sequence_that_has_to_wait_computes_its_last_token() -> None:
    stage = Stage()
    leader = stage.start((*LONG, 150, 151))
    sequence = sequence_of(LONG)
    sequence.opening = b"x"
    stage.scheduler.add(sequence)
    stage.scheduler.admit(NOW)
    assert sequence.joins
    sequence.opening = None
    while leader.state is State.PREFILL:
        stage.step()
    stage.step()
    assert (sequence.cached, sequence.state) == (99, State.DECODE)


@pytest.mark.parametrize(
    ("kind", "partial", "expected"),
    [(Kind.COMPLETE, False, 99), (Kind.PREFILL, True, 99), (Kind.PREFILL, False, 100)],
)
def test_a_heir_leaves_its_last_token_to_compute_if_it_is_to_be_sampled(
    kind: Kind, partial: bool, expected: int
) -> None:
    stage = Stage(batch_rows=200)
    leader = stage.start((*LONG, 150))
    follower = stage.start(LONG, kind=kind, partial=partial)
    stage.step()
    stage.leave(leader, "cancel")
    assert follower.computed == expected


@pytest.mark.parametrize("seed", range(20))
def test_whoever_comes_and_goes_the_cells_are_as_believed(seed: int) -> None:
    random = Random(seed)
    stage = Stage(cells=300, sequences=6, prefix_bytes=random.choice((0, 400, 1 << 20)))
    choices: list[Callable[[], object]] = [
        lambda: stage.scheduler.add(random_sequence(random)),
        lambda: stage.scheduler.admit(NOW),
        stage.step,
        stage.settle,
        lambda: leave_someone(stage, random),
    ]
    for _ in range(150):
        random.choice(choices)()
        stage.check()
    for one in stage.scheduler.running:
        one.credit = 1 << 20
    stage.run()
    assert stage.backend.used_cells == 0


def random_sequence(random: Random) -> Sequence:
    head = LONG[: random.randrange(0, 100)]
    middle = tuple(range(150, 150 + random.randrange(0, 60)))
    return sequence_of(
        (*head, *middle, random.randrange(220, 225)),
        max_tokens=random.randint(1, 20),
        uid=random.choice((PUBLIC_UID, 1, 2)),
        kind=random.choice((Kind.COMPLETE, Kind.PREFILL)),
        priority=random.choice(tuple(Priority)),
    )


def leave_someone(stage: Stage, random: Random) -> None:
    alive = [one for one in stage.scheduler.running if one.state is not State.FINISHED]
    if alive:
        stage.leave(random.choice(alive), random.choice(LEAVING))
