"""The engine over the scripted backend: every request ends exactly once, and as it should."""

from __future__ import annotations

from typing import Any

import pytest

from qwend.engine.backend import DecodeFailed
from qwend.engine.batch import Batch
from qwend.engine.engine import Engine, EngineSettings
from qwend.engine.events import Finished, Gauges, Produced, Queued, Started
from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.request import ChatTurn, Kind, SamplingParams
from qwend.engine.scripted import IM_END, IM_START, VOCAB_SIZE, Script
from qwend.engine.step_cost import StepCost
from tests.support.engine import (
    Clock,
    RecordingBackend,
    answer,
    ask,
    by_request,
    check_cells,
    check_contiguous,
    check_empty,
    engine_over,
    prefill_progress,
    run,
    user,
)

LONG = "the quick brown fox jumps over the lazy dog"


def test_a_chat_is_answered_and_leaves_nothing_behind() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    said = answer(engine, ask(user("hello")))
    assert said.text == "hello"
    assert said.ids == tuple(b"hello")
    assert said.finished.finish_reason == "stop"
    assert said.finished.completion_tokens == 5
    assert said.finished.prompt_tokens == said.started.prompt_tokens
    check_contiguous(said)
    check_empty(engine, backend)


def test_answers_beside_each_other_are_the_answers_alone() -> None:
    texts = ["first", "second one", "third é 😀", "x"]
    backend = RecordingBackend(sequences=3)
    engine = engine_over(backend)
    requests = [ask(user(text), uid=uid) for uid, text in enumerate(texts)]
    said = by_request(run(engine, *requests))
    assert [said[request.id].text for request in requests] == texts
    check_empty(engine, backend)


def test_the_order_of_events_is_started_progress_tokens_end() -> None:
    engine = engine_over(RecordingBackend(batch_rows=16))
    said = answer(engine, ask(LONG, max_tokens=3))
    kinds = [type(event).__name__ for event in said.events]
    assert kinds == ["Started", *["Prefilling"] * 2, *["Produced"] * 3, "Finished"]
    assert prefill_progress(said) == [(16, 43), (32, 43)]


def test_who_has_to_wait_is_told_how_many_are_ahead() -> None:
    engine = engine_over(RecordingBackend(sequences=1))
    requests = [ask("a") for _ in range(3)]
    said = by_request(run(engine, *requests))
    assert not any(isinstance(event, Queued) for event in said[requests[0].id].events)
    assert said[requests[1].id].events[0] == Queued(requests[1].id, 0)
    assert said[requests[2].id].events[0] == Queued(requests[2].id, 1)
    assert sum(isinstance(event, Queued) for event in said[requests[2].id].events) == 1


def test_who_has_to_wait_is_told_so_while_all_others_are_paused() -> None:
    engine = engine_over(RecordingBackend(sequences=1))
    run(engine, ask("a", credit=0))
    request = ask("b")
    assert by_request(run(engine, request))[request.id].events == [Queued(request.id, 0)]


# Ends


@pytest.mark.parametrize("count", [1, 2, 4])
def test_max_tokens_ends_the_answer_at_that_token(count: int) -> None:
    said = answer(engine_over(RecordingBackend()), ask(user("hello"), max_tokens=count))
    assert said.text == "hello"[:count]
    assert said.finished.finish_reason == "length"
    assert said.finished.completion_tokens == count


@pytest.mark.row("F6")
def test_a_full_context_ends_the_answer_at_the_exact_token() -> None:
    # 20 cells, a prompt of 12: exactly 8 tokens of answer, whatever was asked for.
    backend = RecordingBackend(Script(endless=True), cells=20)
    engine = engine_over(backend)
    said = answer(engine, ask("x" * 12, max_tokens=1000))
    assert said.finished.finish_reason == "length"
    assert said.finished.completion_tokens == 8
    assert len(said.text) == 8
    check_empty(engine, backend)


@pytest.mark.row("A8")
def test_a_stop_string_ends_the_answer_before_itself() -> None:
    engine = engine_over(RecordingBackend(Script(answer="say no more, say")))
    said = answer(engine, ask(stop=("more", "zzz")))
    assert said.text == "say no "
    assert said.finished.finish_reason == "stop_string"
    assert said.ids == tuple(b"say no ")


def test_a_stop_that_is_certain_only_at_the_end_counts() -> None:
    engine = engine_over(RecordingBackend(Script(answer="xabc")))
    said = answer(engine, ask(stop=("abcd", "bc")))
    assert (said.text, said.finished.finish_reason) == ("xa", "stop_string")


@pytest.mark.row("A8")
def test_text_held_for_a_stop_goes_out_when_the_length_is_reached() -> None:
    engine = engine_over(RecordingBackend(Script(answer="ab sto")))
    said = answer(engine, ask(stop=("stop",), max_tokens=6))
    assert (said.text, said.finished.finish_reason) == ("ab sto", "length")
    assert said.finished.completion_tokens == len(said.ids) == 6


def test_an_answer_cut_within_a_character_ends_in_a_replacement() -> None:
    engine = engine_over(RecordingBackend(Script(answer="a😀")))
    said = answer(engine, ask(max_tokens=3))
    assert said.text == "a�"
    assert len(said.ids) == 3
    check_contiguous(said)


def test_ignore_eos_goes_on_to_the_length() -> None:
    sampling = SamplingParams(temperature=0.0, ignore_eos=True)
    said = answer(engine_over(RecordingBackend()), ask(user("ab"), max_tokens=5, sampling=sampling))
    assert (said.text, said.finished.finish_reason) == ("ababa", "length")


def test_an_end_token_that_comes_all_the_same_does_not_end_an_answer_that_ignores_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = RecordingBackend(Script(answer="a"))
    eager = backend.open_sampler(SamplingParams(), ())
    monkeypatch.setattr(backend, "open_sampler", lambda params, prompt, answer: eager)
    sampling = SamplingParams(temperature=0.0, ignore_eos=True)
    said = answer(engine_over(backend), ask("x", max_tokens=3, sampling=sampling))
    assert (said.text, said.ids) == ("a", (97, IM_END, IM_END))


# Prefill and tokenize


def test_a_prefill_ends_prefilled_without_an_answer() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    said = answer(engine, ask(user(LONG), kind=Kind.PREFILL))
    assert said.finished.finish_reason == "prefilled"
    assert said.finished.completion_tokens == 0
    assert not any(isinstance(event, Produced) for event in said.events)
    check_empty(engine, backend)


def test_a_chat_after_its_prefill_computes_only_what_is_new() -> None:
    engine = engine_over(RecordingBackend())
    prefill = answer(engine, ask(user(LONG), kind=Kind.PREFILL))
    chat = answer(engine, ask(user(LONG)))
    assert chat.finished.cached_tokens == prefill.finished.prompt_tokens
    assert chat.finished.prompt_tokens - chat.finished.cached_tokens == len("Sassistant\n")
    assert chat.text == LONG


def test_the_second_same_prefill_is_over_at_once() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, ask(user(LONG), kind=Kind.PREFILL))
    steps = backend.steps
    again = answer(engine, ask(user(LONG), kind=Kind.PREFILL))
    assert again.finished.cached_tokens == again.finished.prompt_tokens
    assert backend.steps == steps


def test_the_next_turn_reuses_the_conversation_with_its_answer() -> None:
    engine = engine_over(RecordingBackend())
    first = answer(engine, ask(user(LONG)))
    turns = (*user(LONG), ChatTurn("assistant", LONG), ChatTurn("user", "and?"))
    second = answer(engine, ask(turns))
    # All of the first prompt and of its answer, but for the answer's last token: the end token
    # took its place before it was computed.
    spoken = first.finished.prompt_tokens + first.finished.completion_tokens
    assert second.finished.cached_tokens >= spoken - 1


def test_another_uid_reuses_nothing() -> None:
    engine = engine_over(RecordingBackend())
    answer(engine, ask(user(LONG), uid=1))
    assert answer(engine, ask(user(LONG), uid=2)).finished.cached_tokens == 0


@pytest.mark.parametrize(
    ("special", "expected"), [(False, tuple(b"a<|im_end|>")), (True, (97, IM_END))]
)
def test_tokenize_answers_with_ids_and_takes_no_cell(
    special: bool, expected: tuple[int, ...]
) -> None:
    backend = RecordingBackend()
    request = ask("a<|im_end|>", kind=Kind.TOKENIZE, parse_special=special)
    said = answer(engine_over(backend), request)
    assert said.finished.tokens == expected
    assert said.finished.finish_reason == "tokenized"
    assert backend.steps == 0


def test_tokenize_works_while_every_sequence_is_taken() -> None:
    engine = engine_over(RecordingBackend(Script(endless=True), sequences=1))
    engine.submit(ask("x"))
    engine.step()
    request = ask("abc", kind=Kind.TOKENIZE)
    engine.submit(request)
    assert by_request(engine.step())[request.id].finished.tokens == (97, 98, 99)


# Refusals


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ("", "invalid_value"),
        ([], "invalid_value"),
        ([-1], "invalid_value"),
        ([1, VOCAB_SIZE], "invalid_value"),
        ("x" * 100, "context_exceeded"),
        ("x" * 101, "context_exceeded"),
        ("\n" * 1_000_000, "context_exceeded"),
    ],
)
def test_a_bad_prompt_fails_alone_and_before_any_step(prompt: str | list[int], code: str) -> None:
    backend = RecordingBackend(cells=100)
    engine = engine_over(backend)
    request = ask(prompt) if prompt else ask("" if prompt == "" else (), tokens=None, text="")
    assert answer(engine, request).failed.code == code
    assert backend.steps == 0
    check_empty(engine, backend)


def test_a_prompt_that_leaves_room_for_one_token_gets_one() -> None:
    said = answer(engine_over(RecordingBackend(cells=100)), ask("x" * 99))
    assert said.finished.completion_tokens == 1


def test_context_exceeded_names_both_counts() -> None:
    failed = answer(engine_over(RecordingBackend(cells=64)), ask("x" * 70)).failed
    assert "70 tokens" in failed.message
    assert "64" in failed.message


def test_a_token_id_out_of_range_is_named_with_its_place() -> None:
    failed = answer(engine_over(RecordingBackend()), ask([1, 2, 999])).failed
    assert "prompt[2] is 999" in failed.message
    assert str(VOCAB_SIZE - 1) in failed.message


def test_a_prefill_may_fill_the_whole_context() -> None:
    engine = engine_over(RecordingBackend(cells=64))
    said = answer(engine, ask("x" * 64, kind=Kind.PREFILL))
    assert said.finished.finish_reason == "prefilled"
    failed = answer(engine, ask("x" * 65, kind=Kind.PREFILL)).failed
    assert failed.code == "context_exceeded"


def test_a_model_without_chat_tokens_refuses_chat_and_completes() -> None:
    backend = RecordingBackend()
    object.__setattr__(backend.facts, "chatml", False)
    engine = engine_over(backend)
    assert answer(engine, ask(user("hi"))).failed.code == "unsupported"
    assert answer(engine, ask("hi")).text == "hi"


# Cancel


def test_cancel_while_waiting_never_starts() -> None:
    engine = engine_over(RecordingBackend(sequences=1))
    first, second = ask("ab"), ask("cd")
    engine.submit(first)
    engine.submit(second)
    engine.step()
    engine.cancel(second.id)
    said = by_request(run(engine))[second.id]
    assert said.finished.finish_reason == "cancelled"
    assert not any(isinstance(event, Started | Produced) for event in said.events)


def test_cancel_before_the_first_step_ends_it_too() -> None:
    engine = engine_over(RecordingBackend())
    request = ask("ab")
    engine.submit(request)
    engine.cancel(request.id)
    assert by_request(run(engine))[request.id].finished.finish_reason == "cancelled"


def test_cancel_during_prefill_frees_its_cells_before_the_next_step() -> None:
    backend = RecordingBackend(batch_rows=16)
    engine = engine_over(backend)
    request = ask(LONG)
    engine.submit(request)
    engine.step()
    assert backend.used_cells == 16
    engine.cancel(request.id)
    check_empty(engine, backend)
    assert by_request(engine.step())[request.id].finished.finish_reason == "cancelled"


def test_cancel_during_decode_ends_it_with_what_it_has_said() -> None:
    backend = RecordingBackend(Script(endless=True))
    engine = engine_over(backend)
    request = ask("ab")
    engine.submit(request)
    for _ in range(3):
        engine.step()
    engine.cancel(request.id)
    finished = by_request(engine.step())[request.id].finished
    assert (finished.finish_reason, finished.completion_tokens) == ("cancelled", 3)
    check_empty(engine, backend)


@pytest.mark.parametrize(
    ("said", "stop"), [("ab sto", ("stop",)), ("abc\U0001f600", ())], ids=["a stop", "a character"]
)
def test_a_cancel_counts_what_was_said_and_not_what_was_held_back(
    said: str, stop: tuple[str, ...]
) -> None:
    engine = engine_over(RecordingBackend(Script(answer=said)))
    request = ask("x", stop=stop)
    engine.submit(request)
    events = [event for _ in range(6) for event in engine.step()]
    engine.cancel(request.id)
    heard = by_request([*events, *engine.step()])[request.id]
    assert heard.finished.completion_tokens == len(heard.ids) == 3


def test_cancel_of_what_is_over_or_unknown_does_nothing() -> None:
    engine = engine_over(RecordingBackend())
    request = ask("ab")
    assert answer(engine, request).finished.finish_reason == "stop"
    engine.cancel(request.id)
    engine.cancel(999_999)
    assert engine.idle
    assert engine.step() == []


# Credit


def test_without_credit_nothing_is_produced_and_the_engine_rests() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    request = ask("hello", credit=0)
    assert not any(isinstance(event, Produced) for event in run(engine, request))
    assert engine.idle
    steps = backend.steps
    assert engine.step() == []
    assert backend.steps == steps
    check_cells(engine, backend)


def test_credit_is_spent_token_by_token() -> None:
    engine = engine_over(RecordingBackend())
    request = ask("hello", credit=2)
    said = by_request(run(engine, request))[request.id]
    assert said.text == "he"
    engine.grant(request.id, 1)
    assert by_request(run(engine))[request.id].text == "l"
    engine.grant(request.id, 100)
    rest = by_request(run(engine))[request.id]
    assert rest.text == "lo"
    assert rest.finished.finish_reason == "stop"


def test_a_paused_request_stops_only_itself() -> None:
    engine = engine_over(RecordingBackend())
    paused, other = ask("hello", credit=1), ask("world")
    said = by_request(run(engine, paused, other))
    assert said[paused.id].text == "h"
    assert said[other.id].finished.finish_reason == "stop"


def test_tokens_that_are_held_back_cost_no_credit() -> None:
    # The front grants by what it sees. Were a held token charged, a stop string longer than the
    # credit would stop the request for ever: nothing goes out, so nothing is granted.
    engine = engine_over(RecordingBackend(Script(answer="aaaaaaab")))
    request = ask("x", credit=2, stop=("a" * 20,))
    said = by_request(run(engine, request))[request.id]
    assert said.text == "aaaaaaab"
    assert len(said.ids) == 8


def test_half_a_character_costs_no_credit() -> None:
    engine = engine_over(RecordingBackend(Script(answer="😀😀")))
    request = ask("x", credit=1)
    assert by_request(run(engine, request))[request.id].text == "😀"


def test_a_grant_to_what_is_over_does_nothing() -> None:
    engine = engine_over(RecordingBackend())
    engine.grant(999_999, 5)
    assert engine.idle


# Decode failures (F9)


class Refusing(RecordingBackend):
    """Refuses the decode with this number, as llama.cpp does: the cells stay as they were."""

    def __init__(self, at_step: int, *, retry_smaller: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.at_step = at_step
        self.retry_smaller = retry_smaller

    def decode(self, batch: Batch) -> None:
        if self.steps + 1 == self.at_step:
            self.steps += 1
            raise DecodeFailed("refused", retry_smaller=self.retry_smaller)
        super().decode(batch)


def test_when_room_is_missing_only_the_youngest_fails() -> None:
    backend = Refusing(3, retry_smaller=True)
    engine = engine_over(backend)
    requests = [ask(text) for text in ("first", "second", "third")]
    said = by_request(run(engine, *requests))
    assert said[requests[2].id].failed.code == "model_error"
    assert [said[one.id].text for one in requests[:2]] == ["first", "second"]
    check_empty(engine, backend)


def test_a_batch_the_model_refuses_fails_everyone_in_it_and_nobody_else() -> None:
    backend = Refusing(2, retry_smaller=False, sequences=2)
    engine = engine_over(backend)
    requests = [ask(text) for text in ("first", "second", "third")]
    said = by_request(run(engine, *requests))
    assert [said[one.id].failed.message for one in requests[:2]] == ["refused"] * 2
    assert said[requests[2].id].text == "third"
    check_empty(engine, backend)


def test_a_paused_request_survives_the_failure_of_a_batch_without_it() -> None:
    backend = Refusing(3, retry_smaller=False)
    engine = engine_over(backend)
    paused = ask("hello", credit=1)
    run(engine, paused)
    other = ask("world")
    run(engine, other)
    engine.grant(paused.id, 10)
    assert by_request(run(engine))[paused.id].text == "ello"


# Times and gauges


def test_times_are_what_the_clock_said() -> None:
    # Each reading of the clock is 1 s later than the one before; received at 100 s.
    clock = Clock(now=104.0, per_call_s=1.0)
    engine = engine_over(RecordingBackend(), cost=StepCost({1: 1.0}), clock=clock)
    finished = answer(engine, ask(user("abc"))).finished
    assert finished.queue_s == 5.0
    assert finished.ttft_s == finished.queue_s + finished.prefill_s
    assert finished.decode_s > 0
    assert 0 < finished.itl_p50_s <= finished.itl_max_s


def test_the_seed_that_was_used_is_told() -> None:
    sampling = SamplingParams(temperature=0.0, seed=42)
    assert answer(engine_over(RecordingBackend()), ask("x", sampling=sampling)).finished.seed == 42


def test_a_step_that_told_something_ends_with_the_gauges() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    engine.submit(ask("hello"))
    engine.submit(ask("hello", uid=2))
    *_, gauges = engine.step()
    assert isinstance(gauges, Gauges)
    assert (gauges.step, gauges.running, gauges.waiting) == (1, 2, 0)
    assert gauges.used_cells == 10
    run(engine)
    assert engine.idle
    assert engine.step() == []


def test_a_prompt_of_control_ids_is_taken_as_it_is() -> None:
    backend = RecordingBackend()
    said = answer(engine_over(backend), ask([IM_START, *b"user\n", 104, IM_END, 10]))
    assert isinstance(said.end, Finished)
    assert said.text == "h"


def test_the_end_of_an_answer_is_told_before_its_prefix_is_kept() -> None:
    # Keeping it copies all its cells: 2 ms that the last token must not wait for.
    backend = RecordingBackend()
    engine = engine_over(backend)
    engine.submit(ask(user("a question long enough to be worth keeping")))
    while not any(isinstance(event, Finished) for event in engine.step()):
        assert len(engine.prefix_cache) == 0
    assert len(engine.prefix_cache) == 0
    assert not engine.idle
    engine.step()
    assert len(engine.prefix_cache) == 1
    check_empty(engine, backend)


def test_an_empty_prefix_cache_that_was_given_is_the_one_in_use() -> None:
    # An empty one has a length of 0, and what is kept on disk comes back through it.
    given = PrefixCache(1 << 20)
    engine = Engine(
        RecordingBackend(), StepCost({1: 1e-9}), EngineSettings(), Clock(), prefix_cache=given
    )
    answer(engine, ask(user("a question that is long enough to be worth a copy")))
    engine.step()
    assert len(given) == 1
