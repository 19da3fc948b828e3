"""Checkpoints: memory that cannot be cut back keeps a copy where the next turn will go on."""

from __future__ import annotations

import pytest

from qwend.engine.events import Finished
from qwend.engine.intake import new_sequence
from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import ChatTurn, EngineRequest, Kind
from qwend.engine.scripted import Script
from qwend.engine.template import ChatFormat
from tests.support.engine import RecordingBackend, answer, ask, check_empty, engine_over, user

QUESTION = "what is the capital of the country"
REASONED = "<think>\nit is a country\n</think>\n\nno idea"
OPENING = len("Sassistant\n")  # <|im_start|> and the role: what opens an answer


def thinking(**settings: bool) -> RecordingBackend:
    """It reasons, and its next prompt leaves that out: it does not go on where the answer ended."""
    return RecordingBackend(Script(answer=REASONED, thinks=True), **settings)


def next_turn() -> tuple[ChatTurn, ...]:
    return (*user(QUESTION), ChatTurn("assistant", "no idea"), ChatTurn("user", "and why is that"))


def checkpoint_of(request: EngineRequest, backend: RecordingBackend) -> int:
    return new_sequence(request, prompt_tokens(request, backend), backend).checkpoint


def finished(backend: RecordingBackend, *requests: EngineRequest) -> Finished:
    """How the last of them ended, one after the other."""
    engine = engine_over(backend)
    *_, last = [answer(engine, request).finished for request in requests]
    check_empty(engine, backend)
    return last


def test_a_chat_has_its_checkpoint_where_the_answer_is_opened() -> None:
    backend = thinking(can_trim=False)
    request = ask(user(QUESTION))
    assert checkpoint_of(request, backend) == len(prompt_tokens(request, backend)) - OPENING


def test_what_was_typed_ahead_has_it_too() -> None:
    backend = thinking(can_trim=False)
    ahead = ask(user(QUESTION), kind=Kind.PREFILL, partial=True)
    assert checkpoint_of(ahead, backend) == checkpoint_of(ask(user(QUESTION)), backend)


@pytest.mark.parametrize(
    ("request_", "can_trim"),
    [
        (ask(user(QUESTION)), True),
        (ask(QUESTION), False),
        (ask(user(QUESTION), kind=Kind.PREFILL), False),
    ],
    ids=["memory that can be cut", "complete", "prefill of whole turns"],
)
def test_nothing_else_has_one(request_: EngineRequest, can_trim: bool) -> None:
    assert checkpoint_of(request_, thinking(can_trim=can_trim)) == 0


def test_the_next_turn_goes_on_from_the_checkpoint() -> None:
    backend = thinking(can_trim=False)
    first = ask(user(QUESTION))
    asked = checkpoint_of(first, backend)
    assert finished(backend, first, ask(next_turn())).cached_tokens == asked


def test_the_next_turn_goes_on_from_the_checkpoint_of_what_was_typed_ahead() -> None:
    # Enter was pressed after a pause: the chat had nothing to compute, and nowhere to keep it.
    # As Qwen3.5 does, this one opens the reasoning in the prompt, and the next turn leaves it out.
    backend = thinking(can_trim=False)
    form = ChatFormat(True, thinks_by_default=True, opens_reasoning=True)
    object.__setattr__(backend.facts, "chat_format", form)
    ahead = ask(user(QUESTION), kind=Kind.PREFILL, partial=True)
    asked = checkpoint_of(ahead, backend)
    last = finished(backend, ahead, ask(user(QUESTION)), ask(next_turn()))
    assert last.cached_tokens == asked


def test_a_third_turn_goes_on_from_the_second() -> None:
    backend = thinking(can_trim=False)
    second = ask(next_turn())
    third = ask((*next_turn(), ChatTurn("assistant", "no idea"), ChatTurn("user", "well")))
    asked = checkpoint_of(second, backend)
    assert finished(backend, ask(user(QUESTION)), second, third).cached_tokens == asked


def test_the_same_question_again_goes_on_from_the_checkpoint() -> None:
    backend = thinking(can_trim=False)
    first = ask(user(QUESTION))
    assert finished(backend, first, ask(user(QUESTION))).cached_tokens == checkpoint_of(
        first, backend
    )


def test_a_step_stops_at_the_checkpoint_so_that_it_can_be_kept() -> None:
    backend = thinking(can_trim=False)
    answer(engine_over(backend), ask(user(QUESTION)))
    asked = checkpoint_of(ask(user(QUESTION)), backend)
    assert [len(batch) for batch in backend.batches[:2]] == [asked, OPENING]


def test_where_memory_can_be_cut_the_next_turn_needs_no_checkpoint() -> None:
    backend = thinking(can_trim=True)
    last = finished(backend, ask(user(QUESTION)), ask(next_turn()))
    assert last.cached_tokens >= checkpoint_of(ask(user(QUESTION)), thinking(can_trim=False))


def test_checkpoints_of_older_pauses_are_dropped() -> None:
    backend = thinking(can_trim=False)
    engine = engine_over(backend)
    for end in range(20, len(QUESTION)):
        answer(engine, ask(user(QUESTION[:end]), kind=Kind.PREFILL, partial=True))
        engine.step()
        # The pause's own copy, and its checkpoint.
        assert len(engine.prefix_cache) == 2
