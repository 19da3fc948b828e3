"""The scheduler over the scripted backend: who runs, which rows a step takes, what is shared."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

import pytest

from qwend.engine.batch import Batch, Row
from qwend.engine.prefix_cache import MIN_TOKENS, PrefixCache
from qwend.engine.request import PUBLIC_UID, Kind
from qwend.engine.scheduler import MIN_CHUNK_ROWS, Scheduler
from qwend.engine.sequence import Sequence, State, Times
from qwend.engine.step_cost import StepCost
from qwend.errors import EngineBug
from tests.support.engine import RecordingBackend, ask

LONG = tuple(range(100))


def scheduler_over(
    backend: RecordingBackend,
    *,
    row_s: float = 1e-9,
    budget_s: float = 0.120,
    prefix_bytes: int = 1 << 20,
) -> Scheduler:
    return Scheduler(backend, PrefixCache(prefix_bytes), StepCost({1: row_s}), budget_s)


def waiting(
    scheduler: Scheduler,
    prompt: SequenceOf[int],
    *,
    max_tokens: int = 10,
    uid: int = 1000,
    credit: int = 1 << 20,
    kind: Kind = Kind.COMPLETE,
) -> Sequence:
    request = ask(prompt, uid=uid, kind=kind)
    tokens = 0 if kind is Kind.PREFILL else max_tokens
    sequence = Sequence(request, tuple(prompt), tokens, Times(0.0), credit)
    scheduler.add(sequence)
    return sequence


def step(scheduler: Scheduler, backend: RecordingBackend) -> Batch | None:
    """Schedule, decode, commit; each sampled sequence gets token 7."""
    batch = scheduler.schedule(0.0)
    if batch is not None:
        backend.decode(batch)
        for sequence, _ in scheduler.commit(batch):
            sequence.answer.append(7)
    return batch


def running(scheduler: Scheduler, backend: RecordingBackend, *, credit: int = 1 << 20) -> Sequence:
    """A sequence that is decoding: its prompt is one token."""
    sequence = waiting(scheduler, [1], credit=credit)
    scheduler.admit(0.0)
    step(scheduler, backend)
    assert sequence.state is State.DECODE
    return sequence


def rows_of(batch: Batch | None, sequence: Sequence) -> list[Row]:
    assert batch is not None
    return [row for row in batch.rows if row.seq_id == sequence.seq_id]


# Admission


def test_a_request_is_admitted_when_its_longest_answer_fits() -> None:
    backend = RecordingBackend(cells=100, sequences=4)
    scheduler = scheduler_over(backend)
    # An answer's last token is never computed: 40 + 11 - 1 cells each.
    first, second, third = (
        waiting(scheduler, LONG[:40], max_tokens=11, uid=uid) for uid in (1, 2, 3)
    )
    assert scheduler.admit(0.0) == [first, second]
    assert scheduler.reserved_cells == 100
    assert list(scheduler.waiting) == [third]
    scheduler.remove(first, keep_prefix=False)
    assert scheduler.admit(0.0) == [third]


def test_nobody_overtakes_a_large_request_at_the_head() -> None:
    backend = RecordingBackend(cells=100, sequences=4)
    scheduler = scheduler_over(backend)
    holder = waiting(scheduler, LONG[:50])
    large = waiting(scheduler, LONG[:60])
    small = waiting(scheduler, [1], max_tokens=1)
    assert scheduler.admit(0.0) == [holder]
    assert scheduler.admit(0.0) == []
    scheduler.remove(holder, keep_prefix=False)
    assert scheduler.admit(0.0) == [large, small]


@pytest.mark.row("B6")
def test_of_scarce_cells_a_user_without_any_gets_the_next() -> None:
    scheduler = scheduler_over(RecordingBackend(cells=100))
    first, second, third = (waiting(scheduler, [1], max_tokens=50, uid=1) for _ in range(3))
    scheduler.admit(0.0)
    other = waiting(scheduler, [1], max_tokens=50, uid=2)
    scheduler.remove(first, keep_prefix=False)
    scheduler.admit(0.0)
    assert scheduler.running == [second, other]
    scheduler.remove(other, keep_prefix=False)
    scheduler.admit(0.0)
    assert scheduler.running == [second, third]


def test_no_more_run_than_there_are_sequence_ids() -> None:
    backend = RecordingBackend(sequences=2)
    scheduler = scheduler_over(backend)
    sequences = [waiting(scheduler, [1]) for _ in range(3)]
    assert scheduler.admit(0.0) == sequences[:2]
    assert {one.seq_id for one in sequences[:2]} == {0, 1}


def test_no_more_run_than_a_step_has_rows() -> None:
    backend = RecordingBackend(sequences=8, batch_rows=2)
    scheduler = scheduler_over(backend)
    for _ in range(8):
        waiting(scheduler, [1])
    assert len(scheduler.admit(0.0)) == 2
    for _ in range(3):
        batch = step(scheduler, backend)
        assert batch is not None
        assert len(batch) <= 2


def test_it_is_idle_when_the_head_of_the_queue_waits_for_paused_sequences() -> None:
    backend = RecordingBackend(sequences=1)
    scheduler = scheduler_over(backend)
    paused = running(scheduler, backend, credit=1)
    paused.credit = 0
    waiting(scheduler, [1])
    assert scheduler.admit(0.0) == []
    assert scheduler.schedule(0.0) is None
    assert scheduler.idle(0.0)
    paused.credit = 1
    assert not scheduler.idle(0.0)
    paused.credit = 0
    scheduler.remove(paused, keep_prefix=False)
    assert not scheduler.idle(0.0)


# The rows of a step


def test_decode_rows_come_first() -> None:
    backend = RecordingBackend(batch_rows=16)
    scheduler = scheduler_over(backend)
    streams = [running(scheduler, backend) for _ in range(3)]
    prompt = waiting(scheduler, LONG)
    scheduler.admit(0.0)
    batch = step(scheduler, backend)
    assert batch is not None
    assert [row.seq_id for row in batch.rows[:3]] == [one.seq_id for one in streams]
    assert all(row.wants_logits for row in batch.rows[:3])
    assert len(rows_of(batch, prompt)) == 13


@pytest.mark.parametrize(
    ("budget_s", "chunk"),
    [(0.120, 11), (0.040, MIN_CHUNK_ROWS), (0.001, MIN_CHUNK_ROWS), (10.0, 127)],
)
def test_a_prefill_chunk_fits_the_budget_beside_a_stream(budget_s: float, chunk: int) -> None:
    backend = RecordingBackend(batch_rows=128)
    scheduler = scheduler_over(backend, row_s=0.010, budget_s=budget_s)
    running(scheduler, backend)
    prompt = waiting(scheduler, tuple(range(200)))
    scheduler.admit(0.0)
    assert len(rows_of(step(scheduler, backend), prompt)) == chunk


def test_without_a_stream_prefill_takes_the_whole_step() -> None:
    backend = RecordingBackend(batch_rows=128)
    scheduler = scheduler_over(backend, row_s=0.010, budget_s=0.001)
    prompt = waiting(scheduler, tuple(range(200)))
    scheduler.admit(0.0)
    assert len(rows_of(step(scheduler, backend), prompt)) == 128


def test_only_the_last_row_of_a_prompt_asks_for_logits() -> None:
    backend = RecordingBackend(batch_rows=64)
    scheduler = scheduler_over(backend)
    waiting(scheduler, LONG)
    scheduler.admit(0.0)
    first, second = step(scheduler, backend), step(scheduler, backend)
    assert first is not None
    assert second is not None
    assert first.sampled_rows == ()
    assert second.sampled_rows == (35,)


def test_a_prefill_request_asks_for_no_logits_at_all() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    waiting(scheduler, LONG, kind=Kind.PREFILL)
    scheduler.admit(0.0)
    batch = step(scheduler, backend)
    assert batch is not None
    assert (len(batch), batch.sampled_rows) == (100, ())


def test_a_short_prompt_takes_half_the_step_beside_a_long_one() -> None:
    backend = RecordingBackend(batch_rows=64)
    scheduler = scheduler_over(backend)
    long = waiting(scheduler, tuple(range(200)), uid=1)
    short = waiting(scheduler, tuple(range(50)), uid=2)
    scheduler.admit(0.0)
    batch = step(scheduler, backend)
    assert len(rows_of(batch, short)) == 32
    assert len(rows_of(batch, long)) == 32


def test_what_a_short_prompt_leaves_the_oldest_takes() -> None:
    backend = RecordingBackend(batch_rows=64)
    scheduler = scheduler_over(backend)
    long = waiting(scheduler, tuple(range(200)), uid=1)
    short = waiting(scheduler, tuple(range(10)), uid=2)
    scheduler.admit(0.0)
    batch = step(scheduler, backend)
    assert len(rows_of(batch, short)) == 10
    assert len(rows_of(batch, long)) == 54


def test_a_sequence_without_credit_gets_no_row_until_it_has_some() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    stream = running(scheduler, backend, credit=1)
    stream.credit = 0
    assert scheduler.schedule(0.0) is None
    assert scheduler.idle(0.0)
    stream.credit = 3
    assert not scheduler.idle(0.0)
    assert len(rows_of(step(scheduler, backend), stream)) == 1


def test_a_prompt_without_credit_is_prefilled_up_to_its_last_token() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    prompt = waiting(scheduler, LONG, credit=0)
    scheduler.admit(0.0)
    assert not scheduler.idle(0.0)
    batch = step(scheduler, backend)
    assert batch is not None
    assert (len(batch), batch.sampled_rows) == (99, ())
    assert scheduler.idle(0.0)
    assert scheduler.schedule(0.0) is None
    prompt.credit = 1
    assert not scheduler.idle(0.0)
    batch = step(scheduler, backend)
    assert batch is not None
    assert batch.sampled_rows == (0,)


def test_a_row_of_nobody_is_a_bug() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    running(scheduler, backend)
    with pytest.raises(EngineBug, match="astray"):
        scheduler.commit(Batch((Row(1, 5, 0, False),)))
    with pytest.raises(EngineBug, match="astray"):
        scheduler.commit(Batch((Row(1, 0, 6, False),)))


# Leaving


def test_cancel_during_prefill_frees_its_cells_and_its_id() -> None:
    backend = RecordingBackend(batch_rows=16, sequences=1)
    scheduler = scheduler_over(backend, prefix_bytes=0)
    prompt = waiting(scheduler, LONG)
    scheduler.admit(0.0)
    step(scheduler, backend)
    assert backend.used_cells == 16
    scheduler.remove(prompt, keep_prefix=True)
    assert backend.used_cells == 0
    assert (prompt.state, prompt.seq_id) == (State.FINISHED, -1)
    assert scheduler.idle(0.0)
    next_one = waiting(scheduler, LONG)
    assert scheduler.admit(0.0) == [next_one]


def test_a_waiting_request_leaves_without_having_had_anything() -> None:
    backend = RecordingBackend(sequences=1)
    scheduler = scheduler_over(backend)
    running(scheduler, backend)
    second = waiting(scheduler, LONG)
    scheduler.remove(second, keep_prefix=True)
    assert len(scheduler.waiting) == 0
    assert backend.saved == 0


def test_a_sampler_is_closed_when_its_sequence_leaves() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    stream = running(scheduler, backend)
    closed: list[bool] = []

    class Sampler:
        def sample(self, output: int) -> int:
            return 7

        def sample_kept(self, logits: object) -> int:
            return 7

        def close(self) -> None:
            closed.append(True)

    stream.sampler = Sampler()
    scheduler.remove(stream, keep_prefix=False)
    assert closed == [True]
    assert stream.sampler is None


@pytest.mark.parametrize(("count", "kept"), [(MIN_TOKENS - 1, 0), (MIN_TOKENS, 1)])
def test_only_a_prefix_that_is_worth_it_is_saved(count: int, kept: int) -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    one = waiting(scheduler, LONG[:count])
    scheduler.admit(0.0)
    step(scheduler, backend)
    scheduler.remove(one, keep_prefix=True)
    assert backend.saved == kept


def test_what_failed_leaves_nothing_in_the_cache() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    one = waiting(scheduler, LONG)
    scheduler.admit(0.0)
    step(scheduler, backend)
    scheduler.remove(one, keep_prefix=False)
    assert backend.saved == 0


# Reuse


def admitted(scheduler: Scheduler, prompt: SequenceOf[int], *, uid: int = 1000) -> Sequence:
    sequence = waiting(scheduler, prompt, uid=uid)
    assert scheduler.admit(0.0) == [sequence]
    return sequence


def computed(
    scheduler: Scheduler, backend: RecordingBackend, prompt: SequenceOf[int], uid: int = 1000
) -> Sequence:
    sequence = admitted(scheduler, prompt, uid=uid)
    step(scheduler, backend)
    assert sequence.computed == len(prompt)
    return sequence


@pytest.mark.parametrize("owner", [1000, PUBLIC_UID])
def test_a_running_sequence_shares_its_prefix(owner: int) -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    first = computed(scheduler, backend, LONG[:60], uid=owner)
    second = admitted(scheduler, (*LONG[:40], 250, 251))
    assert backend.shared == [(first.seq_id, second.seq_id, 40)]
    assert (second.cached, second.computed) == (40, 40)
    step(scheduler, backend)
    assert backend.cells[second.seq_id] == [*LONG[:40], 250, 251]


@pytest.mark.parametrize(("owner", "asker"), [(1000, 1001), (1000, PUBLIC_UID)])
def test_a_running_sequence_shares_nothing_with_another_uid(owner: int, asker: int) -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    computed(scheduler, backend, LONG, uid=owner)
    other = admitted(scheduler, LONG, uid=asker)
    assert backend.shared == []
    assert other.cached == 0


def test_who_needs_a_prefix_that_is_being_computed_waits_for_it_and_joins() -> None:
    backend = RecordingBackend(batch_rows=20)
    scheduler = scheduler_over(backend)
    first = admitted(scheduler, LONG)
    step(scheduler, backend)
    second = admitted(scheduler, (*LONG[:70], 250))
    for _ in range(3):
        step(scheduler, backend)
        assert (second.computed, second.cached) == (0, 0)
    assert first.computed == 80
    step(scheduler, backend)
    assert (second.cached, second.computed) == (70, 71)
    assert backend.shared == [(first.seq_id, second.seq_id, 70)]
    scheduler.check_integrity()


def test_the_last_token_of_an_equal_prompt_is_computed_again() -> None:
    # Its logits are what the answer starts from.
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    computed(scheduler, backend, LONG)
    assert admitted(scheduler, LONG).cached == 99


def test_a_finished_prefix_is_restored_and_cut_to_what_matches() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    scheduler.remove(computed(scheduler, backend, LONG), keep_prefix=True)
    again = admitted(scheduler, (*LONG[:50], 250))
    assert backend.restored == [again.seq_id]
    assert (again.cached, backend.cells[again.seq_id]) == (50, list(LONG[:50]))


@pytest.mark.parametrize(("owner", "cached"), [(1000, 50), (PUBLIC_UID, 50), (1001, 0)])
def test_a_finished_prefix_serves_its_uid_or_everyone_if_public(owner: int, cached: int) -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    scheduler.remove(computed(scheduler, backend, LONG, uid=owner), keep_prefix=True)
    assert admitted(scheduler, (*LONG[:50], 250)).cached == cached


def test_the_longer_of_a_running_and_a_finished_prefix_is_taken() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    scheduler.remove(computed(scheduler, backend, LONG), keep_prefix=True)
    computed(scheduler, backend, (*LONG[:20], 250))
    backend.restored.clear()
    assert admitted(scheduler, (*LONG[:90], 251)).cached == 90
    assert len(backend.restored) == 1


def test_a_blob_that_does_not_fit_beside_the_others_is_left_alone() -> None:
    # 1. A prefix of 100 tokens is parked.  2. Another uid takes 30 of the 120 cells.
    # 3. A request of 20 tokens would match, but the blob comes back whole: 30 + 100 > 120.
    backend = RecordingBackend(cells=120)
    scheduler = scheduler_over(backend)
    scheduler.remove(computed(scheduler, backend, LONG), keep_prefix=True)
    computed(scheduler, backend, LONG[:30], uid=7)
    assert admitted(scheduler, LONG[:20]).cached == 0
    assert backend.restored == []


def test_a_blob_that_the_model_refuses_is_forgotten_and_the_prompt_computed() -> None:
    class Refusing(RecordingBackend):
        def restore(self, seq_id: int, blob: bytes) -> bool:
            self.restored.append(seq_id)
            return False

    backend = Refusing()
    scheduler = scheduler_over(backend)
    scheduler.remove(computed(scheduler, backend, LONG), keep_prefix=True)
    again = admitted(scheduler, LONG)
    assert (again.cached, again.computed) == (0, 0)
    scheduler.remove(again, keep_prefix=False)
    assert admitted(scheduler, LONG).cached == 0
    assert len(backend.restored) == 1


def test_memory_that_cannot_be_trimmed_reuses_whole_prefixes_only() -> None:
    backend = RecordingBackend(can_trim=False)
    scheduler = scheduler_over(backend)
    first = computed(scheduler, backend, LONG[:60])
    assert admitted(scheduler, LONG[:50]).cached == 0
    assert backend.shared == []
    scheduler.remove(first, keep_prefix=True)
    assert admitted(scheduler, LONG[:50]).cached == 0
    assert backend.restored == []
    assert admitted(scheduler, LONG[:70]).cached == 60


def test_a_prefill_that_is_all_there_already_takes_no_row() -> None:
    backend = RecordingBackend()
    scheduler = scheduler_over(backend)
    scheduler.remove(computed(scheduler, backend, LONG), keep_prefix=True)
    again = waiting(scheduler, LONG, kind=Kind.PREFILL)
    scheduler.admit(0.0)
    assert (again.cached, again.remaining_prefill) == (100, 0)
    assert scheduler.schedule(0.0) is None
