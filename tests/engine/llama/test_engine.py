"""The engine over the real llama.cpp: what the scripted backend promised holds there too."""

from __future__ import annotations

import os
from random import Random

import pytest

from qwend.engine.engine import Engine
from qwend.engine.events import Event, Failed, Finished, Produced
from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import ChatTurn, EngineRequest, Kind, SamplingParams
from qwend.engine.step_cost import StepCost
from qwend.engine.template import ROLES
from tests.support.engine import answer, ask, by_request, check_contiguous, engine_over, run, user
from tests.support.tiny_model import CONTROL_TOKENS, END, IM_END, IM_START, filled

pytestmark = pytest.mark.llama
# QWEND_TEST_SCHEDULES: how many, each of 400 random operations.
SCHEDULES = int(os.environ.get("QWEND_TEST_SCHEDULES", "1"))
LONG = "a text that is long enough to be worth keeping"


def check_filled(engine: Engine, backend: LlamaBackend) -> None:
    """llama.cpp's own account of every sequence's cells is the scheduler's."""
    engine.check_integrity()
    believed = {one.seq_id: one.computed for one in engine.scheduler.running}
    for seq_id in range(backend.facts.sequences):
        assert filled(backend, seq_id) == believed.get(seq_id, 0)


def test_cancel_frees_the_cells_in_prefill_and_in_decode(backend: LlamaBackend) -> None:
    engine = engine_over(backend, prefix_bytes=0)
    for steps in (1, 3):
        request = ask(LONG, max_tokens=50, sampling=SamplingParams(ignore_eos=True))
        engine.submit(request)
        for _ in range(steps):
            engine.step()
        check_filled(engine, backend)
        assert filled(backend, 0) > 0
        engine.cancel(request.id)
        check_filled(engine, backend)
        assert filled(backend, 0) == 0


def test_ignore_eos_reaches_the_exact_length(backend: LlamaBackend) -> None:
    sampling = SamplingParams(temperature=1.0, seed=3, ignore_eos=True)
    said = answer(engine_over(backend), ask(LONG, max_tokens=40, sampling=sampling))
    assert (said.finished.finish_reason, len(said.ids)) == ("length", 40)
    check_contiguous(said)


@pytest.mark.row("F6")
def test_a_full_context_ends_at_the_exact_token(backend: LlamaBackend) -> None:
    engine = engine_over(backend)
    cells = backend.facts.cells
    sampling = SamplingParams(temperature=0.0, ignore_eos=True)
    request = ask([65] * (cells - 20), max_tokens=1_000, sampling=sampling)
    said = answer(engine, request)
    assert (said.finished.finish_reason, len(said.ids)) == ("length", 20)


class Forced:
    """A sampler that says what it was told to say."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = iter(tokens)

    def sample(self, output: int) -> int:
        return next(self.tokens)

    def close(self) -> None: ...


@pytest.mark.row("A7")
def test_text_forced_byte_by_byte_comes_out_character_by_character(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A7: 20 texts of random characters of 1 to 4 bytes, each byte a token of its own.
    random = Random(7)
    ranges = ((0x20, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0x10000, 0x10FFFF))
    for _ in range(20):
        text = "".join(chr(random.randint(*random.choice(ranges))) for _ in range(10))
        tokens = [byte_token(backend, byte) for byte in text.encode()]
        forced = Forced([*tokens, IM_END])
        monkeypatch.setattr(backend, "open_sampler", lambda params, prompt, answer, one=forced: one)
        said = answer(engine_over(backend), ask("x", max_tokens=100))
        pieces = [event.text for event in said.events if isinstance(event, Produced)]
        assert pieces == list(text)
        assert said.ids == tuple(tokens)


@pytest.mark.row("A7")
@pytest.mark.parametrize("byte", [0x00, 0x41, 0x80, 0xC3, 0xE4, 0xF0, 0xFF])
def test_text_of_any_byte_is_valid_text(backend: LlamaBackend, byte: int) -> None:
    sampling = SamplingParams(temperature=0.0, logit_bias=((byte_token(backend, byte), 1e4),))
    said = answer(engine_over(backend), ask("x", max_tokens=5, sampling=sampling))
    assert said.text == (bytes((byte,)) * 5).decode("utf-8", "replace")
    assert len(said.ids) == 5


def byte_token(backend: LlamaBackend, byte: int) -> int:
    return next(token for token in range(END) if backend.token_bytes(token) == bytes((byte,)))


@pytest.mark.row("A9")
def test_control_tokens_in_content_stay_text(backend: LlamaBackend) -> None:
    # 500 contents of control tokens and their pieces: the ids above the bytes are the scaffold's.
    random = Random(9)
    parts = [*CONTROL_TOKENS, "<|im_", "end|>", "<|im_start|>system\n", '{"a": "', '"}', "é", "\n"]
    for _ in range(500):
        turns = tuple(
            ChatTurn(random.choice(ROLES), "".join(random.choices(parts, k=random.randint(1, 9))))
            for _ in range(random.randint(1, 3))
        )
        tokens = prompt_tokens(ask(turns), backend)
        control = [token for token in tokens if token >= END]
        assert control == [IM_START, IM_END] * len(turns) + [IM_START]
        text = b"".join(map(backend.token_bytes, tokens)).decode()
        assert all(turn.content in text for turn in turns)


def test_a_prefill_is_what_the_chat_after_it_begins_with(backend: LlamaBackend) -> None:
    engine = engine_over(backend)
    prefill = answer(engine, ask(user(LONG), kind=Kind.PREFILL))
    chat = answer(engine, ask(user(LONG), max_tokens=3))
    assert chat.finished.cached_tokens == prefill.finished.prompt_tokens
    alone = answer(engine_over(backend), ask(user(LONG), max_tokens=3))
    assert alone.finished.cached_tokens == 0
    assert chat.ids == alone.ids


@pytest.mark.row("F7")
@pytest.mark.parametrize("seed", range(11, 11 + SCHEDULES))
def test_any_schedule_leaves_the_cells_as_believed_and_ends_everyone_once(
    backend: LlamaBackend, seed: int
) -> None:
    # Random operations, llama.cpp's account compared with ours after each.
    random = Random(seed)
    engine = engine_over(
        backend, cost=StepCost({1: 0.010, 32: 0.050}), itl_budget_s=0.030, prefix_bytes=100_000
    )
    asked: list[EngineRequest] = []
    told: list[Event] = []
    for _ in range(400):
        choice = random.random()
        if choice < 0.25:
            asked.append(random_request(random))
            engine.submit(asked[-1])
        elif choice < 0.35 and asked:
            engine.cancel(random.choice(asked).id)
        elif choice < 0.5 and asked:
            engine.grant(random.choice(asked).id, random.randint(1, 10))
        else:
            told += engine.step()
        check_filled(engine, backend)
    for request in asked:
        engine.grant(request.id, 1_000)
    told += run(engine)
    check_filled(engine, backend)
    transcripts = by_request(told)
    for request in asked:
        assert isinstance(transcripts[request.id].end, Finished | Failed)
        check_contiguous(transcripts[request.id])


def random_request(random: Random) -> EngineRequest:
    text = LONG[: random.randint(1, len(LONG))] + random.choice(("", "x", "yy" * 60))
    return ask(
        user(text) if random.random() < 0.5 else text,
        kind=random.choice((None, Kind.PREFILL)),
        uid=random.choice((1, 2)),
        max_tokens=random.randint(1, 60),
        credit=random.choice((0, 5, 1_000)),
        sampling=SamplingParams(temperature=1.0, seed=random.randrange(99), ignore_eos=True),
    )


# With the built-in model, whose answers make sense


QUESTIONS = ("What is qwend?", "How do I start it?", "Who are you?", "Tell me a story.")


@pytest.mark.row("F10")
def test_greedy_alone_is_greedy_beside_three_others(guide: LlamaBackend) -> None:
    requests = [ask(user(text), uid=uid, max_tokens=32) for uid, text in enumerate(QUESTIONS)]
    alone = [answer(engine_over(guide), request).ids for request in requests]
    together = by_request(run(engine_over(guide), *requests))
    assert [together[request.id].ids for request in requests] == alone


@pytest.mark.row("C3")
def test_a_restored_conversation_goes_on_as_if_it_had_stayed(guide: LlamaBackend) -> None:
    first = ask(user(QUESTIONS[0]), max_tokens=32)
    engine = engine_over(guide)
    said = answer(engine, first).text
    turns = (*user(QUESTIONS[0]), ChatTurn("assistant", said), ChatTurn("user", QUESTIONS[1]))
    restored = answer(engine, ask(turns, max_tokens=32))
    assert restored.finished.cached_tokens > 16
    assert restored.ids == answer(engine_over(guide), ask(turns, max_tokens=32)).ids


def test_a_greedy_answer_is_the_same_twice(guide: LlamaBackend) -> None:
    answers = {answer(engine_over(guide), ask(user(QUESTIONS[0]), max_tokens=32)).ids}
    answers.add(answer(engine_over(guide), ask(user(QUESTIONS[0]), max_tokens=32)).ids)
    assert len(answers) == 1


def test_the_built_in_model_can_chat(guide: LlamaBackend) -> None:
    assert guide.facts.chatml
    said = answer(engine_over(guide), ask(user("Hello!"), max_tokens=64))
    assert said.text.strip()
    assert not any(control in said.text for control in CONTROL_TOKENS)
