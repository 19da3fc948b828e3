"""An answer goes on in another engine at its next token, wherever the first one was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from qwend.engine.answer import extend_answer
from qwend.engine.continuation import AnswerSoFar, Continuation
from qwend.engine.engine import Engine
from qwend.engine.events import Event, Finished, Gauges, Produced, Queued, Started
from qwend.engine.intake import new_sequence
from qwend.engine.request import EngineRequest, Kind, SamplingParams, Thinking
from qwend.engine.scripted import Script
from tests.support.engine import (
    RecordingBackend,
    Transcript,
    answer,
    ask,
    by_request,
    check_contiguous,
    check_empty,
    engine_over,
    run,
    user,
)

ANSWERS: dict[str, tuple[Script, dict[str, Any]]] = {
    "plain": (Script(answer="abcdef"), {}),
    "half characters": (Script(answer="aé😀b中"), {}),
    "cut within a character": (Script(answer="ab😀"), {"max_tokens": 4}),
    "almost a stop string": (Script(answer="xstoxstxstop!"), {"stop": ("stop",)}),
    "held to the end": (Script(answer="ab sto"), {"stop": ("stop",)}),
    "reasoning": (Script(answer="<think>\nhm, é\n</think>\n\nyes é", thinks=True), {}),
    "length": (
        Script(answer="abc"),
        {"max_tokens": 7, "sampling": SamplingParams(0.0, seed=1, ignore_eos=True)},
    ),
}


def noted(events: Sequence[Event]) -> AnswerSoFar:
    so_far = AnswerSoFar()
    for event in events:
        if isinstance(event, Started):
            so_far.start(event)
        elif isinstance(event, Produced):
            so_far.extend(event)
    return so_far


def continued(request: EngineRequest, events: Sequence[Event]) -> EngineRequest:
    return replace(request, continuation=noted(events).continuation())


def outcome(said: Transcript) -> tuple[Any, ...]:
    end = said.finished
    facts = (end.finish_reason, end.completion_tokens, end.prompt_tokens, end.cached_tokens)
    return said.text, said.reasoning, said.ids, facts


@pytest.mark.parametrize("name", ANSWERS)
def test_cut_off_anywhere_it_ends_as_if_nothing_had_happened(name: str) -> None:
    script, fields = ANSWERS[name]
    request = ask(user("hello"), thinking=Thinking.MODEL, **fields)
    whole = answer(engine_over(RecordingBackend(script)), request)
    for cut in range(len(whole.events)):
        told = whole.events[:cut]
        backend = RecordingBackend(script)
        engine = engine_over(backend)
        rest = answer(engine, continued(request, told))
        both = Transcript([*told, *rest.events])
        assert outcome(both) == outcome(whole)
        check_contiguous(both)
        check_empty(engine, backend)


def test_nothing_is_told_again_of_what_the_client_knows() -> None:
    request = ask(user("hello"))
    script = Script(answer="abcdef")
    whole = answer(engine_over(RecordingBackend(script)), request)
    told = [one for one in whole.events if not isinstance(one, Finished)]
    rest = answer(engine_over(RecordingBackend(script)), continued(request, told[:-2]))
    assert [type(one) for one in rest.events] == [Produced, Produced, Finished]


def test_one_that_was_cut_off_in_prefill_is_not_started_twice() -> None:
    request = ask(user("hello"))
    rest = answer(
        engine_over(RecordingBackend()), continued(request, [Started(request.id, 9, 4, 100.5)])
    )
    assert not any(isinstance(one, Started) for one in rest.events)
    assert rest.text == "hello"
    assert rest.finished.cached_tokens == 4


def test_one_that_had_not_started_starts_as_usual() -> None:
    request = continued(ask(user("hello")), [])
    assert request.continuation is None


def test_times_are_those_of_the_whole_answer() -> None:
    request = ask("abc", max_tokens=2)
    done = Continuation((ord("a"),), 1, 0, 0, 100.5, 101.0, 101.5)
    end = answer(engine_over(RecordingBackend()), replace(request, continuation=done)).finished
    assert (end.queue_s, end.prefill_s, end.ttft_s) == (0.5, 0.5, 1.0)


def test_an_answer_that_had_all_its_tokens_ends_at_once() -> None:
    """The engine died between the last token and the end."""
    backend = RecordingBackend()
    engine = engine_over(backend)
    done = Continuation((97, 98), 2, 0, 0, 100.5, 101.0, 101.5)
    said = answer(engine, ask("abc", max_tokens=2, continuation=done))
    assert (said.finished.finish_reason, said.finished.completion_tokens) == ("length", 2)
    assert backend.steps == 0
    check_empty(engine, backend)


def test_what_was_computed_is_found_again_where_the_engine_lives_on() -> None:
    backend = RecordingBackend(Script(answer="0123456789"))
    engine = engine_over(backend)
    request = ask("a prompt that is long enough to keep", max_tokens=10)
    events = cut_off(engine, request, after=4)
    rows = len(backend.batches)
    rest = answer(engine, continued(request, events))
    assert rest.text == "456789"
    assert sum(map(len, backend.batches[rows:])) == 6  # of the prompt nothing but its copy


def cut_off(engine: Engine, request: EngineRequest, after: int) -> list[Event]:
    engine.submit(request)
    events: list[Event] = []
    while len(by_request(events).get(request.id, Transcript()).ids) < after:
        events += [one for one in engine.step() if not isinstance(one, Gauges)]
    engine.cancel(request.id)
    run(engine)
    return events


def test_an_opening_is_for_answers_that_begin() -> None:
    """Logits kept after a prompt are no help to an answer that is past them."""
    engine = engine_over(RecordingBackend())
    request = ask(user("hello"))
    run(engine, replace(ask(user("hello"), kind=Kind.PREFILL, partial=True)))
    told: list[Event] = [
        Started(request.id, 9, 0, 100.5),
        Produced(request.id, 0, (ord("h"),), "h", 101.0),
    ]
    said = answer(engine, continued(request, told))
    assert said.text == "ello"


def test_one_that_waits_again_says_so() -> None:
    engine = engine_over(RecordingBackend(sequences=1))
    run(engine, ask("a", credit=0))
    request = continued(ask("b"), [Started(0, 1, 0, 100.5)])
    assert by_request(run(engine, request))[request.id].events == [Queued(request.id, 0)]


def test_a_part_of_a_token_that_has_gone_out_does_not_go_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a token's text the beginning may be certain before its end is."""
    pieces = {1: b"<think>x<", 2: b"b</think>y", 3: b"es st", 4: b"ill"}
    request = ask(user("hello"), stop=("stop",))
    backend = RecordingBackend(Script(thinks=True))
    monkeypatch.setattr(backend, "token_bytes", pieces.__getitem__)
    first = new_sequence(request, [1], backend)
    released = [extend_answer(first, token, data) for token, data in pieces.items()]
    assert [one and (one.ids, one.reasoning, one.text) for one in released] == [
        ((), "x", ""),
        ((1, 2), "<b", "y"),
        ((), "", "es "),
        ((3, 4), "", "still"),
    ]
    for cut, (token, data) in enumerate(pieces.items()):
        so_far = AnswerSoFar(started_s=1.0)
        for one in released[:cut]:
            assert one is not None
            so_far.extend(Produced(0, one.index, one.ids, one.text, 1.0, one.reasoning))
        done = so_far.continuation()
        second = new_sequence(replace(request, continuation=done), [1], backend)
        for again in range(len(so_far.tokens) + 1, token):
            assert extend_answer(second, again, pieces[again]) is None
        assert extend_answer(second, token, data) == released[cut]


def test_a_continuation_crosses_the_hop() -> None:
    done = Continuation((1, 2), 3, 4, 5, 6.0, 7.0, 8.0)
    request = ask("a", continuation=done)
    assert EngineRequest.from_map(request.to_map()) == request
