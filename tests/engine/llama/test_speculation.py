"""Drafts and openings over the real llama.cpp: greedy answers are the same with and without."""

from __future__ import annotations

from typing import Any

import pytest

from qwend.engine.drafting import OpenDrafter, PromptLookup
from qwend.engine.engine import Engine
from qwend.engine.events import Produced
from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.request import ChatTurn, EngineRequest, Kind, Priority, SamplingParams
from tests.support.drafters import cheap_rows, knowing
from tests.support.engine import Transcript, answer, ask, by_request, engine_over, run, user
from tests.support.tiny_model import filled

pytestmark = pytest.mark.llama

QUESTIONS = (
    "What is qwend?",
    "How do I start it?",
    "Who are you?",
    "Tell me a story.",
    "Where is the socket?",
    "What is a prefix cache?",
    "How do I load another model?",
    "What does qwenctl do?",
    "How much memory does it need?",
    "Hello!",
    "Thank you.",
    "Can you write code?",
    "What is the time?",
    "Why is it slow?",
    "How do I stop the daemon?",
    "Which models can I use?",
    "Is it safe?",
    "What is a token?",
    "Repeat after me: one two three one two three one two three one",
    "Count: 1 2 3 4 1 2 3 4 1 2 3 4 1 2",
    "hello hello hello hello hello hello",
    "How do I see the status?",
)
TOKENS = 32


class CountingBackend:
    """A backend that counts its steps and its draft rows."""

    def __init__(self, backend: LlamaBackend) -> None:
        self._backend = backend
        self.steps = 0
        self.drafts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def decode(self, batch: Any) -> None:
        self.steps += 1
        self.drafts += sum(row.draft for row in batch.rows)
        self._backend.decode(batch)


def question(text: str) -> EngineRequest:
    return ask(user(text), max_tokens=TOKENS)


def plain(backend: LlamaBackend, request: EngineRequest) -> Transcript:
    return answer(engine_over(backend, open_drafter=None, prefix_bytes=0), request)


def drafted(
    backend: LlamaBackend, request: EngineRequest, open_drafter: OpenDrafter
) -> tuple[Transcript, CountingBackend]:
    """Its answer with drafts, the cells of every step compared with what is believed."""
    counting: Any = CountingBackend(backend)
    engine = engine_over(counting, cost=cheap_rows(), open_drafter=open_drafter, prefix_bytes=0)
    engine.submit(request)
    events = []
    while not engine.idle:
        events += engine.step()
        check_filled(engine, backend)
    return by_request(events)[request.id], counting


def check_filled(engine: Engine, backend: LlamaBackend) -> None:
    engine.check_integrity()
    believed = {one.seq_id: one.computed for one in engine.scheduler.running}
    for seq_id in range(backend.facts.sequences):
        assert filled(backend, seq_id) == believed.get(seq_id, 0)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Transcript]:
    """The answers without drafts, by question, as they become known."""
    return {}


def recorded_answer(
    recorded: dict[str, Transcript], backend: LlamaBackend, text: str
) -> Transcript:
    if text not in recorded:
        recorded[text] = plain(backend, question(text))
    return recorded[text]


@pytest.mark.parametrize("kind", ["right", "wrong", "sometimes", "lookup"])
def test_greedy_answers_are_the_same_with_drafts_and_without(
    guide: LlamaBackend, recorded: dict[str, Transcript], kind: str
) -> None:
    drafts, saved = 0, 0
    for text in QUESTIONS:
        alone = recorded_answer(recorded, guide, text)
        drafters: dict[str, OpenDrafter] = {
            "right": knowing(alone.ids),
            "wrong": knowing(alone.ids, lambda at: False),
            "sometimes": knowing(alone.ids, lambda at: at % 4 != 3),
            "lookup": PromptLookup,
        }
        said, counted = drafted(guide, question(text), drafters[kind])
        assert (said.text, said.ids) == (alone.text, alone.ids), text
        assert said.finished.finish_reason == alone.finished.finish_reason
        drafts += counted.drafts
        saved += len(alone.ids) - counted.steps
    assert drafts > 0
    if kind in ("right", "sometimes"):
        assert saved > len(QUESTIONS)


def test_greedy_with_a_penalty_is_the_same_with_drafts_and_without(guide: LlamaBackend) -> None:
    # The penalty looks back on what was said: a rejected guess must leave no trace in it.
    for text in QUESTIONS[:6]:
        sampling = SamplingParams(temperature=0.0, repeat_penalty=1.3)
        request = ask(user(text), max_tokens=TOKENS, sampling=sampling)
        alone = plain(guide, request)
        said, counted = drafted(guide, request, knowing(alone.ids, lambda at: at % 3 != 1))
        assert said.ids == alone.ids
        assert counted.drafts > 0


def test_drawn_answers_are_the_same_with_drafts_and_without(backend: LlamaBackend) -> None:
    # One random number a token that is taken, none for a guess. The built-in model is too sure of
    # its words to show it.
    for seed in range(6):
        sampling = SamplingParams(temperature=1.5, top_k=20, seed=seed, ignore_eos=True)
        request = ask("a prompt", max_tokens=TOKENS, sampling=sampling)
        alone = plain(backend, request)
        said, counted = drafted(backend, request, knowing(alone.ids, lambda at: at % 3 != 1))
        assert said.ids == alone.ids
        assert counted.drafts > 0


def test_streams_beside_each_other_with_drafts_say_what_they_say_alone(
    guide: LlamaBackend, recorded: dict[str, Transcript]
) -> None:
    texts = QUESTIONS[:4]
    alone = [recorded_answer(recorded, guide, text).ids for text in texts]
    engine = engine_over(guide, cost=cheap_rows())
    requests = [ask(user(text), uid=uid, max_tokens=TOKENS) for uid, text in enumerate(texts)]
    together = by_request(run(engine, *requests))
    assert [together[request.id].ids for request in requests] == alone


@pytest.mark.parametrize("text", QUESTIONS[:6])
def test_after_a_pause_in_typing_the_first_token_needs_no_step(
    guide: LlamaBackend, recorded: dict[str, Transcript], text: str
) -> None:
    alone = recorded_answer(recorded, guide, text)
    counting: Any = CountingBackend(guide)
    engine = engine_over(counting, open_drafter=None)
    answer(engine, ask(user(text), kind=Kind.PREFILL, partial=True))
    steps = counting.steps
    request = question(text)
    engine.submit(request)
    events = engine.step()
    check_filled(engine, guide)
    first = [event for event in events if isinstance(event, Produced)][:1]
    assert counting.steps == steps
    assert first[0].ids == alone.ids[: len(first[0].ids)]
    said = by_request(events + run(engine))[request.id]
    assert said.ids == alone.ids


def test_typing_on_after_a_pause_is_answered_as_if_there_had_been_none(
    guide: LlamaBackend,
) -> None:
    system = ChatTurn("system", "You are the guide of qwend, and you say what it can do.")
    whole = "How do I start it on a machine that has no screen?"
    alone = plain(guide, ask((system, *user(whole)), max_tokens=TOKENS))
    engine = engine_over(guide)
    for end in (12, 20, 33, len(whole)):
        ahead = answer(
            engine, ask((system, *user(whole[:end])), kind=Kind.PREFILL, partial=True)
        ).finished
        # What closed the turn at the pause before is taken back, the rest stays.
        assert (ahead.cached_tokens > 16) == (end > 12)
        assert ahead.cached_tokens < ahead.prompt_tokens
    assert answer(engine, ask((system, *user(whole)), max_tokens=TOKENS)).ids == alone.ids


@pytest.mark.parametrize("prefix_bytes", [1 << 30, 0])
def test_a_preempted_answer_goes_on_as_it_would_have(
    guide: LlamaBackend, recorded: dict[str, Transcript], prefix_bytes: int
) -> None:
    # All sequences are taken by the background: the last of them gives way, and comes back.
    texts = QUESTIONS[: guide.facts.sequences]
    engine = engine_over(guide, prefix_bytes=prefix_bytes)
    slow = [
        ask(user(text), uid=uid, max_tokens=TOKENS, priority=Priority.BACKGROUND)
        for uid, text in enumerate(texts)
    ]
    events = []
    for request in slow:
        engine.submit(request)
    for _ in range(5):
        events += engine.step()
    engine.submit(quick := ask(user("Hello!"), uid=99, max_tokens=TOKENS))
    events += engine.step()
    assert [one.id for one in engine.scheduler.waiting] == [slow[-1].id]
    check_filled(engine, guide)
    events += run(engine)
    said = by_request(events)
    for request, text in zip((*slow, quick), (*texts, "Hello!"), strict=True):
        assert said[request.id].ids == recorded_answer(recorded, guide, text).ids


def test_a_follower_of_a_prompt_in_the_making_says_what_it_says_alone(guide: LlamaBackend) -> None:
    turns = (ChatTurn("system", "You are the guide of qwend. " * 12), *user("What is qwend?"))
    other = (*turns[:1], *user("How do I start it?"))
    alone = [plain(guide, ask(one, max_tokens=TOKENS)).ids for one in (turns, other)]
    engine = engine_over(guide)
    requests = [ask(one, max_tokens=TOKENS) for one in (turns, other)]
    engine.submit(requests[0])
    events = engine.step()
    engine.submit(requests[1])
    events += engine.step()
    assert engine.scheduler.running[1].source is engine.scheduler.running[0]
    said = by_request(events + run(engine))
    assert [said[request.id].ids for request in requests] == alone
    assert said[requests[1].id].finished.cached_tokens > 64
