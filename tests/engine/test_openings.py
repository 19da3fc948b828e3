"""Openings: what was computed while it was typed needs no step when Enter is pressed."""

from __future__ import annotations

from typing import Any

import pytest

from qwend.engine.engine import Engine
from qwend.engine.events import Finished, Gauges, Prefilling, Produced, Started
from qwend.engine.openings import MOST_OPENINGS, Openings
from qwend.engine.prefix_cache import MIN_TOKENS
from qwend.engine.request import EngineRequest, Kind, Priority
from qwend.engine.scripted import Script
from tests.support.engine import (
    RecordingBackend,
    answer,
    ask,
    by_request,
    check_cells,
    check_contiguous,
    check_empty,
    engine_over,
    run,
    user,
)

TYPED = "what is the capital of the country"


def typed(text: str = TYPED, **fields: Any) -> EngineRequest:
    return ask(user(text), kind=Kind.PREFILL, partial=True, **fields)


def first_step(engine: Engine, backend: RecordingBackend, request: EngineRequest) -> list[Any]:
    engine.submit(request)
    events = engine.step()
    check_cells(engine, backend)
    return events


def samples(backend: RecordingBackend) -> int:
    """Rows with logits so far."""
    return sum(len(batch.sampled_rows) for batch in backend.batches)


# What is kept


def test_an_opening_serves_once() -> None:
    openings = Openings()
    assert openings.keep(1, (1, 2), "logits") == ()
    assert openings.take(1, (1, 2)) == "logits"
    assert openings.take(1, (1, 2)) is None


@pytest.mark.parametrize(("uid", "prompt"), [(2, (1, 2)), (1, (1, 2, 3)), (1, (1,)), (-1, (1, 2))])
def test_an_opening_is_for_its_uid_and_exactly_its_prompt(
    uid: int, prompt: tuple[int, ...]
) -> None:
    openings = Openings()
    openings.keep(1, (1, 2), "logits")
    assert openings.take(uid, prompt) is None
    assert openings.take(1, (1, 2)) == "logits"


def test_the_latest_opening_replaces_the_one_before_and_names_it() -> None:
    openings = Openings()
    openings.keep(1, (1, 2), "first")
    assert openings.keep(1, (1, 2), "again") == ()
    assert openings.keep(1, (1, 3), "second") == ((1, 2),)
    assert openings.take(1, (1, 2)) is None
    assert openings.take(1, (1, 3)) == "second"


def test_an_opening_with_a_checkpoint_has_left_two_copies() -> None:
    openings = Openings()
    openings.keep(1, (1, 2, 3), "first", 2)
    assert openings.keep(1, (1, 2, 4), "second", 2) == ((1, 2, 3), (1, 2))


def test_only_the_latest_few_are_kept() -> None:
    openings = Openings()
    for uid in range(MOST_OPENINGS):
        openings.keep(uid, (1,), uid)
    openings.keep(0, (2,), "again")
    assert openings.keep(99, (1,), 99) == ()
    assert openings.take(1, (1,)) is None
    assert openings.take(0, (2,)) == "again"
    assert openings.take(99, (1,)) == 99


# In the engine


def test_after_a_pause_the_first_token_is_told_before_any_step() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    ahead = answer(engine, typed())
    assert ahead.finished.finish_reason == "prefilled"
    assert not any(isinstance(event, Produced) for event in ahead.events)
    request = ask(user(TYPED))
    before = backend.steps
    engine.submit(request)
    events = engine.step()
    assert backend.steps == before
    assert [type(event) for event in events] == [Started, Produced, Gauges]
    events += engine.step()
    # What comes then is a step of the one row that brings the second token.
    assert backend.steps == before + 1
    assert len(backend.batches[-1]) == 1
    said = by_request(events + run(engine))[request.id]
    assert said.text == TYPED
    assert said.finished.cached_tokens == said.finished.prompt_tokens
    check_contiguous(said)
    check_empty(engine, backend)


def test_an_answer_of_one_token_needs_no_step_at_all() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed())
    before = backend.steps
    said = answer(engine, ask(user(TYPED), max_tokens=1))
    assert (said.text, said.finished.finish_reason) == (TYPED[0], "length")
    assert backend.steps == before
    check_empty(engine, backend)


@pytest.mark.parametrize("trim", [True, False])
def test_an_empty_answer_needs_no_step_at_all(trim: bool) -> None:
    backend = RecordingBackend(can_trim=trim)
    engine = engine_over(backend)
    answer(engine, typed(""))
    before = backend.steps
    said = answer(engine, ask(user("")))
    assert (said.text, said.finished.finish_reason) == ("", "stop")
    assert (backend.steps == before) == (said.finished.prompt_tokens >= MIN_TOKENS)


def test_one_that_ended_without_a_step_is_over_beside_others_too() -> None:
    # Its seq_id is given back a step later: until then nothing may wake it up again.
    backend = RecordingBackend(Script(endless=True))
    engine = engine_over(backend)
    stream = ask("stream")
    run(engine, typed())
    engine.submit(stream)
    engine.step()
    request = ask(user(TYPED), max_tokens=1)
    engine.submit(request)
    events = engine.step()
    engine.cancel(request.id)
    events += engine.step()
    assert by_request(events)[request.id].finished.finish_reason == "length"
    engine.cancel(stream.id)
    engine.step()
    check_empty(engine, backend)


def test_typing_on_rolls_the_closing_tokens_back() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed())
    longer = TYPED + " where it rains"
    said = answer(engine, ask(user(longer)))
    assert said.text == longer
    # All that was typed by then, but for the tokens that closed it: <|im_end|> and what follows.
    closing = len("E\nSassistant\n")
    assert said.finished.cached_tokens == answer(engine, typed()).finished.prompt_tokens - closing


def test_each_pause_computes_only_what_was_added() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    closing = len("E\nSassistant\n")
    answer(engine, typed())
    rows = sum(map(len, backend.batches))
    answer(engine, typed(TYPED + " where"))
    assert sum(map(len, backend.batches)) - rows == len(" where") + closing


def test_copies_of_older_pauses_are_dropped() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    for end in range(20, len(TYPED)):
        answer(engine, typed(TYPED[:end]))
        engine.step()
        assert len(engine.prefix_cache) == 1


def test_a_pause_drops_no_copy_of_a_conversation() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed())
    answer(engine, ask(user(TYPED)))
    answer(engine, typed("and something quite different"))
    engine.step()
    assert answer(engine, ask(user(TYPED))).finished.cached_tokens > len(TYPED)


def test_another_uid_never_gets_it() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed(uid=1))
    request = ask(user(TYPED), uid=2)
    before = backend.steps
    said = answer(engine, request)
    assert said.finished.cached_tokens == 0
    assert backend.steps > before + len(TYPED)
    before = backend.steps
    first = first_step(engine, backend, ask(user(TYPED), uid=1))
    assert sum(isinstance(event, Produced) for event in first) == 1
    assert backend.steps == before


def test_without_credit_it_waits_for_a_grant() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed())
    request = ask(user(TYPED), credit=0)
    said = run(engine, request)
    assert not any(isinstance(event, Produced | Finished) for event in said)
    engine.grant(request.id, 1)
    said += run(engine)
    assert by_request(said)[request.id].text == TYPED[:1]
    engine.grant(request.id, 1_000)
    said += run(engine)
    assert by_request(said)[request.id].text == TYPED
    check_contiguous(by_request(said)[request.id])


def test_credit_of_one_brings_the_first_token_and_no_more() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed())
    before = backend.steps
    request = ask(user(TYPED), credit=1)
    assert by_request(run(engine, request))[request.id].text == TYPED[:1]
    assert backend.steps == before


def test_a_chat_that_waits_for_its_turn_begins_with_it_later() -> None:
    backend = RecordingBackend(sequences=1)
    engine = engine_over(backend)
    answer(engine, typed())
    other, request = ask("other"), ask(user(TYPED), max_tokens=1)
    events = first_step(engine, backend, other)
    said = by_request(events + run(engine, request))
    assert said[request.id].text == TYPED[0]
    assert said[other.id].text == "other"
    assert said[request.id].finished.cached_tokens == said[request.id].finished.prompt_tokens


@pytest.mark.parametrize("way", ["no copy", "cut off"])
def test_without_its_cells_an_opening_is_of_no_use_and_does_no_harm(way: str) -> None:
    backend = RecordingBackend()
    engine = engine_over(backend, prefix_bytes=0 if way == "no copy" else 1 << 20)
    answer(engine, typed())
    engine.step()
    engine.prefix_cache.shrink(0)
    request = ask(user(TYPED))
    events = first_step(engine, backend, request)
    assert len(backend.batches[-1]) > len(TYPED), "the prompt is computed as any other"
    said = by_request(events + run(engine))[request.id]
    assert (said.text, said.finished.cached_tokens) == (TYPED, 0)
    check_empty(engine, backend)


def test_a_pause_at_what_is_in_the_cache_already_makes_an_opening_all_the_same() -> None:
    # The same question again, typed: its cells are there, the logits after them are not.
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, ask(user(TYPED)))
    before = backend.steps
    answer(engine, typed())
    assert backend.steps == before + 1
    assert len(backend.batches[-1]) == 1
    first = first_step(engine, backend, ask(user(TYPED)))
    assert backend.steps == before + 1
    assert sum(isinstance(event, Produced) for event in first) == 1


def test_enter_before_the_prefill_is_through_joins_it() -> None:
    backend = RecordingBackend(batch_rows=16)
    engine = engine_over(backend)
    ahead, chat = typed(), ask(user(TYPED))
    engine.submit(ahead)
    engine.step()
    engine.submit(chat)
    said = by_request(run(engine))
    assert said[chat.id].text == TYPED
    total = said[chat.id].finished.prompt_tokens
    assert said[chat.id].finished.cached_tokens == total - 1
    check_empty(engine, backend)


def test_a_prefill_of_a_whole_turn_keeps_no_opening() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, ask(user(TYPED), kind=Kind.PREFILL))
    assert samples(backend) == 0
    before = backend.steps
    assert answer(engine, ask(user(TYPED), max_tokens=1)).text == TYPED[0]
    assert backend.steps == before + 1


def test_what_was_typed_in_the_background_opens_an_answer_too() -> None:
    backend = RecordingBackend()
    engine = engine_over(backend)
    answer(engine, typed(priority=Priority.BACKGROUND))
    before = backend.steps
    answer(engine, ask(user(TYPED), max_tokens=1))
    assert backend.steps == before


def test_progress_is_told_while_typing_and_not_after_the_first_token() -> None:
    backend = RecordingBackend(batch_rows=16)
    engine = engine_over(backend)
    ahead = answer(engine, typed())
    assert any(isinstance(event, Prefilling) for event in ahead.events)
    said = answer(engine, ask(user(TYPED)))
    assert not any(isinstance(event, Prefilling) for event in said.events)


def test_without_trim_an_opening_works_and_typing_on_computes_anew() -> None:
    backend = RecordingBackend(can_trim=False)
    engine = engine_over(backend)
    answer(engine, typed())
    before = backend.steps
    assert answer(engine, ask(user(TYPED), max_tokens=1)).text == TYPED[0]
    assert backend.steps == before
    answer(engine, typed())
    longer = TYPED + " where it rains"
    said = answer(engine, ask(user(longer)))
    assert (said.text, said.finished.cached_tokens) == (longer, 0)
    check_empty(engine, backend)
