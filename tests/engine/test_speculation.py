"""Speculation: drafts change how many steps an answer takes, and nothing else.

The scripted model says ANSWER to everything; the drafter knows it, and is wrong where it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qwend.engine.drafting import MOST_DRAFTS
from qwend.engine.engine import Engine
from qwend.engine.events import Produced
from qwend.engine.request import Kind, SamplingParams
from qwend.engine.scripted import IM_END, Script
from qwend.engine.speculation import WORTH_IT, draft_counts
from qwend.engine.step_cost import StepCost
from tests.support.drafters import KnowsTheAnswer, cheap_rows, knowing
from tests.support.engine import (
    Clock,
    RecordingBackend,
    Transcript,
    answer,
    ask,
    by_request,
    check_cells,
    check_contiguous,
    check_empty,
    engine_over,
    run,
)
from tests.support.sequences import running_at

ANSWER = "the answer that the scripted model gives to everything"
KNOWN = (*ANSWER.encode(), IM_END)
# A row costs as much as a step of its own.
PAYS_NEVER = StepCost({1: 1.0, 128: 128.0}, all_sampled={1: 1.0, 128: 128.0})

Right = Callable[[int], bool]
DRAFTERS: dict[str, Right] = {
    "all accepted": lambda at: True,
    "none accepted": lambda at: False,
    "every third wrong": lambda at: at % 3 != 2,
    "every eighth wrong": lambda at: at % 8 != 3,
    "wrong at first": lambda at: at > 20,
    "wrong in the end": lambda at: at < 20,
}


def backend_of(outputs: int = 8, **settings: Any) -> RecordingBackend:
    return RecordingBackend(Script(answer=ANSWER), outputs=outputs, **settings)


def speculating(backend: RecordingBackend, right: Right = lambda at: True, **fields: Any) -> Engine:
    given: dict[str, Any] = {"cost": cheap_rows(), "open_drafter": knowing(KNOWN, right)}
    return engine_over(backend, **(given | fields))


def step_by_step(engine: Engine, backend: RecordingBackend, *requests: Any) -> Transcript:
    """All of the first request, with cells and rows checked after each step."""
    events = []
    for request in requests:
        engine.submit(request)
    while not engine.idle:
        events += engine.step()
        check_cells(engine, backend)
    return by_request(events)[requests[0].id]


@pytest.mark.parametrize("right", DRAFTERS.values(), ids=DRAFTERS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 1},
        {"max_tokens": 2},
        {"max_tokens": 20},
        {"max_tokens": 21},
        {"max_tokens": len(ANSWER)},
        {"max_tokens": len(ANSWER) + 1},
        {"stop": ("scripted",)},
        {"stop": ("s",)},
        {"stop": ("answer that is not there", "model")},
        {"stop": ("everything!",)},
        {"max_tokens": 80, "sampling": SamplingParams(temperature=0.0, ignore_eos=True)},
    ],
    ids=str,
)
def test_what_is_said_is_the_same_with_drafts_and_without(
    right: Right, fields: dict[str, Any]
) -> None:
    alone = answer(engine_over(backend_of(), open_drafter=None), ask("x", **fields))
    backend = backend_of()
    engine = speculating(backend, right)
    said = step_by_step(engine, backend, ask("x", **fields))
    assert (said.ids, said.text) == (alone.ids, alone.text)
    assert said.finished.finish_reason == alone.finished.finish_reason
    assert said.finished.completion_tokens == alone.finished.completion_tokens
    check_contiguous(said)
    check_empty(engine, backend)


def test_accepted_drafts_save_steps() -> None:
    backend = backend_of()
    said = step_by_step(speculating(backend), backend, ask("x"))
    assert said.text == ANSWER
    # One for the prompt and its first token, and then 8 tokens a step.
    assert backend.steps == 1 + -(-len(ANSWER) // (1 + MOST_DRAFTS))


def test_rejected_drafts_take_no_more_steps_than_none() -> None:
    alone, beside = backend_of(), backend_of()
    answer(engine_over(alone, open_drafter=None), ask("x"))
    answer(speculating(beside, lambda at: False), ask("x"))
    assert beside.steps == alone.steps


def test_tokens_of_one_step_are_told_one_by_one() -> None:
    backend = backend_of()
    engine = speculating(backend)
    engine.submit(ask("x"))
    engine.step()
    told = [one for one in engine.step() if isinstance(one, Produced)]
    assert [one.index for one in told] == list(range(1, 9))
    assert [one.text for one in told] == list(ANSWER[1:9])


@pytest.mark.parametrize("right", DRAFTERS.values(), ids=DRAFTERS)
@pytest.mark.parametrize("credit", [1, 2, 3, 5, 8])
def test_credit_is_never_overspent_and_nothing_is_lost(right: Right, credit: int) -> None:
    backend = backend_of()
    engine = speculating(backend, right)
    request = ask("x", credit=credit)
    said: list[Any] = run(engine, request)
    granted = credit
    while not ended(said):
        assert len(by_request(said)[request.id].ids) == granted
        check_cells(engine, backend)
        engine.grant(request.id, credit)
        granted += credit
        said += run(engine)
    transcript = by_request(said)[request.id]
    assert transcript.text == ANSWER
    check_contiguous(transcript)
    check_empty(engine, backend)


def ended(events: list[Any]) -> bool:
    return any(type(one).__name__ == "Finished" for one in events)


@pytest.mark.parametrize("credit", range(1, 8))
def test_tokens_that_were_held_back_do_not_let_drafts_overspend(credit: int) -> None:
    # 1. Three tokens are held back: they may become the stop string.  2. The next shows that they
    # do not, and all four go out, which takes credit.  3. The drafts after it may have to wait.
    backend = RecordingBackend(Script(answer="abcdefghabcdijkl"), outputs=8)
    known = (*b"abcdefghabcdijkl", IM_END)
    engine = engine_over(backend, cost=cheap_rows(), open_drafter=knowing(known))
    request = ask("x", credit=credit, stop=("abcX",))
    engine.submit(request)
    said: list[Any] = []
    granted, out = credit, 0
    while not ended(said):
        events = run(engine)
        for one in events:
            if isinstance(one, Produced):
                assert out < granted, "it goes on without credit"
                out += len(one.ids)
        said += events
        granted += 2
        engine.grant(request.id, 2)
    assert by_request(said)[request.id].text == "abcdefghabcdijkl"


def test_a_context_that_is_nearly_full_leaves_no_room_for_drafts_beyond_it() -> None:
    backend = backend_of(cells=30)
    engine = speculating(backend)
    said = step_by_step(engine, backend, ask("x" * 12, max_tokens=1000))
    assert (said.finished.finish_reason, said.finished.completion_tokens) == ("length", 18)


@pytest.mark.parametrize("outputs", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("streams", [1, 2, 3])
def test_no_step_has_more_rows_with_logits_than_the_model_allows(
    outputs: int, streams: int
) -> None:
    backend = backend_of(max(outputs, streams), sequences=streams)
    engine = speculating(backend)
    requests = [ask("x" * (40 * number + 1), uid=number) for number in range(streams)]
    said = by_request(run(engine, *requests))
    assert [said[one.id].text for one in requests] == [ANSWER] * streams
    assert max(len(batch.sampled_rows) for batch in backend.batches) <= max(outputs, streams)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
def test_no_step_has_more_rows_than_the_model_takes(rows: int) -> None:
    backend = backend_of(batch_rows=rows)
    said = step_by_step(speculating(backend), backend, ask("x" * 10))
    assert said.text == ANSWER
    assert max(map(len, backend.batches)) <= rows


@pytest.mark.parametrize("rows", [5, 8, 12])
def test_drafts_leave_rows_for_a_prompt(rows: int) -> None:
    backend = backend_of(batch_rows=rows)
    engine = speculating(backend)
    stream, prompt = ask("x", uid=1), ask("y" * 40, uid=2)
    engine.submit(stream)
    engine.step()
    engine.submit(prompt)
    engine.step()
    batch = backend.batches[-1]
    assert sum(row.seq_id == 1 for row in batch.rows) >= 4
    assert by_request(run(engine))[prompt.id].text == ANSWER


def test_memory_that_cannot_be_trimmed_gets_no_drafts() -> None:
    backend = backend_of(can_trim=False)
    assert answer(speculating(backend), ask("x")).text == ANSWER
    assert not any(row.draft for batch in backend.batches for row in batch.rows)


def test_where_drafts_do_not_pay_there_are_none() -> None:
    backend = backend_of()
    engine = speculating(backend, cost=PAYS_NEVER)
    assert answer(engine, ask("x")).text == ANSWER
    assert not any(row.draft for batch in backend.batches for row in batch.rows)


def test_the_speed_that_is_shown_is_that_of_tokens_not_of_guesses() -> None:
    # Each step takes 1 s by this clock; the clock is read several times in between.
    shown = []
    for right in (lambda at: False, lambda at: True):
        backend = backend_of()
        engine = speculating(backend, right, clock=Clock(per_call_s=0.5))
        run(engine, ask("x", max_tokens=40))
        shown.append(engine.speed.decode_tok_s)
    wrong, always = shown
    alone = engine_over(backend_of(), open_drafter=None, clock=Clock(per_call_s=0.5))
    run(alone, ask("x", max_tokens=40))
    assert wrong == pytest.approx(alone.speed.decode_tok_s)
    assert always > 2 * wrong


def test_a_stream_beside_a_failed_step_loses_nothing() -> None:
    backend = RecordingBackend(Script(answer=ANSWER, fail_at_step=3), outputs=8)
    engine = speculating(backend)
    first, second = ask("x", uid=1), ask("y", uid=2, kind=Kind.PREFILL)
    said = by_request(run(engine, first, second))
    assert said[first.id].failed.code == "model_error"
    assert ANSWER.startswith(said[first.id].text)
    assert answer(engine, ask("z")).text == ANSWER
    check_empty(engine, backend)


# How many drafts


def drafts_of(
    cost: StepCost, *, spare: int = 7, acceptance: float = 0.9, used: int = 0, **fields: Any
) -> int:
    sequence = running_at(0, 20, 20, **fields)
    sequence.drafter = KnowsTheAnswer(tuple(range(50)), lambda at: True, acceptance)
    (drafts,) = draft_counts([sequence], cost, spare, used)
    assert drafts == tuple(range(len(drafts)))
    return len(drafts)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 7),
        ({"spare": 3}, 3),
        ({"spare": 0}, 0),
        ({"credit": 4}, 3),
        ({"credit": 1}, 0),
        # The last token of an answer is never computed.
        ({"max_tokens": 4}, 3),
        ({"max_tokens": 1}, 0),
        ({"acceptance": 0.0}, 0),
        ({"acceptance": 0.01}, 0),
    ],
    ids=str,
)
def test_a_draft_needs_a_row_a_cell_a_token_and_a_credit(
    fields: dict[str, Any], expected: int
) -> None:
    assert drafts_of(cheap_rows(), **fields) == expected


def test_there_are_as_many_drafts_as_pay_best() -> None:
    # Rows 2 and 3 cost little and row 4 a whole step: with all likely right, two drafts.
    table = {1: 1.0, 2: 1.1, 3: 1.2, 4: 3.0, 8: 7.0}
    cost = StepCost(table, all_sampled=table)
    assert drafts_of(cost, acceptance=0.95) == 2


def test_a_gain_within_the_error_of_the_table_is_none() -> None:
    # With an acceptance of 0.5 one draft row of this price brings 1.5 tokens in 1.45 times as long.
    table = {1: 1.0, 2: 1.5 / (WORTH_IT - 0.01), 8: 99.0}
    assert drafts_of(StepCost(table, all_sampled=table), acceptance=0.5) == 0
    table[2] = 1.5 / (WORTH_IT + 0.01)
    assert drafts_of(StepCost(table, all_sampled=table), acceptance=0.5) == 1


def test_rows_of_others_make_drafts_dearer() -> None:
    table = {1: 1.0, 2: 1.2, 4: 4.0, 8: 12.0}
    cost = StepCost(table, all_sampled=table)
    assert drafts_of(cost) == 1
    many = [running_at(one, 20, 20) for one in range(3)]
    for sequence in many:
        sequence.drafter = KnowsTheAnswer((1, 2, 3), lambda at: True)
    assert draft_counts(many, cost, 5, 0) == [(), (), ()]


def test_drafts_of_one_stream_make_those_of_the_next_dearer() -> None:
    table = {1: 1.0, 2: 1.1, 3: 1.2, 4: 1.3, 5: 9.0, 8: 30.0}
    several = [running_at(one, 20, 20) for one in range(2)]
    for sequence in several:
        sequence.drafter = KnowsTheAnswer(tuple(range(50)), lambda at: True)
    drafts = draft_counts(several, StepCost(table, all_sampled=table), 6, 0)
    assert [len(one) for one in drafts] == [2, 0]


def test_drafts_are_dealt_out_until_the_spare_rows_are_gone() -> None:
    several = [running_at(one, 20, 20) for one in range(3)]
    for sequence in several:
        sequence.drafter = KnowsTheAnswer(tuple(range(50)), lambda at: True)
    counts = [len(drafts) for drafts in draft_counts(several, cheap_rows(), 10, 0)]
    assert counts == [7, 3, 0]


def test_without_a_drafter_there_are_no_drafts() -> None:
    assert draft_counts([running_at(0, 20, 20)], cheap_rows(), 7, 0) == [()]
    assert drafts_of(PAYS_NEVER) == 0
