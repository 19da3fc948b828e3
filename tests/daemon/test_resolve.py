"""What the engine is asked for what a client left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwend.config import ChatConfig, SamplingConfig
from qwend.daemon.resolve import Resolver, Submitted
from qwend.engine.request import ChatTurn, EngineRequest, Kind, Priority, Thinking
from qwend.wire.generation import Generation
from qwend.wire.prompt import ChatMessage
from qwend.wire.requests import Chat, Complete, Prefill, Tokenize

SAMPLING = SamplingConfig(
    temperature=0.3,
    top_k=11,
    top_p=0.4,
    min_p=0.2,
    repeat_penalty=1.3,
    repeat_last_n=33,
    max_tokens=99,
)
ASKED = (ChatMessage("user", "hello"),)


def resolved(
    message: Submitted, system_prompt: str = "Be brief.", thinking: str = "auto"
) -> EngineRequest:
    resolver = Resolver(SAMPLING, ChatConfig(system_prompt=system_prompt, thinking=thinking))
    return resolver.request(message, request_id=5, uid=1000, received_s=2.5)


def test_what_is_left_out_comes_from_the_configuration() -> None:
    request = resolved(Complete(1, "hello"))
    assert request.max_tokens == 99
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.3, 11, 0.4)
    assert (sampling.min_p, sampling.repeat_penalty, sampling.repeat_last_n) == (0.2, 1.3, 33)
    assert (request.stop, sampling.logit_bias, sampling.ignore_eos) == ((), (), False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # 0 is a value, and not "left out"
        ("temperature", 0.0),
        ("top_k", 0),
        ("top_p", 0.0),
        ("min_p", 0.0),
        ("repeat_penalty", 2.0),
        ("repeat_last_n", 0),
        ("seed", 0),
        ("logit_bias", ((3, -1.0),)),
        ("ignore_eos", True),
    ],
)
def test_what_the_client_gives_wins(name: str, value: Any) -> None:
    request = resolved(Complete(1, "hello", Generation(**{name: value})))
    assert getattr(request.sampling, name) == value


def test_length_and_stops_of_the_client_win() -> None:
    request = resolved(Complete(1, "hello", Generation(max_tokens=3, stop=("x", "y"))))
    assert (request.max_tokens, request.stop) == (3, ("x", "y"))


def test_each_request_without_a_seed_gets_one_of_its_own() -> None:
    seeds = {resolved(Complete(1, "hello")).sampling.seed for _ in range(8)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_ids_owner_and_time_are_the_fronts() -> None:
    request = resolved(Complete(1, "hello"))
    assert (request.id, request.uid, request.received_s) == (5, 1000, 2.5)


@pytest.mark.parametrize("message", [Chat(1, ASKED), Prefill(1, messages=ASKED)])
def test_the_default_system_prompt_comes_first(message: Submitted) -> None:
    turns = resolved(message).turns
    assert turns == (ChatTurn("system", "Be brief."), ChatTurn("user", "hello"))


@pytest.mark.parametrize("kind", [Chat, Prefill])
def test_a_system_message_of_the_client_takes_its_place(kind: Any) -> None:
    messages = (ChatMessage("system", "Be long."), *ASKED)
    message = kind(1, messages) if kind is Chat else kind(1, messages=messages)
    assert resolved(message).turns == (ChatTurn("system", "Be long."), ChatTurn("user", "hello"))


def test_an_empty_system_message_of_the_client_stays_empty() -> None:
    turns = resolved(Chat(1, (ChatMessage("system", ""), *ASKED))).turns
    assert turns == (ChatTurn("system", ""), ChatTurn("user", "hello"))


def test_an_empty_default_adds_no_turn() -> None:
    assert resolved(Chat(1, ASKED), system_prompt="").turns == (ChatTurn("user", "hello"),)


def test_text_and_ids_get_no_system_prompt() -> None:
    text, ids = resolved(Complete(1, "hello")), resolved(Complete(1, (1, 2)))
    assert (text.turns, text.text, text.tokens) == (None, "hello", None)
    assert (ids.turns, ids.text, ids.tokens) == (None, None, (1, 2))
    assert resolved(Prefill(1, prompt="hello")).text == "hello"


@pytest.mark.parametrize("partial", [True, False])
def test_a_prefill_says_whether_its_last_message_may_go_on(partial: bool) -> None:
    assert resolved(Prefill(1, messages=ASKED, partial=partial)).partial is partial
    assert not resolved(Chat(1, ASKED)).partial


@pytest.mark.parametrize("special", [True, False])
def test_only_tokenize_may_ask_for_control_tokens(special: bool) -> None:
    request = resolved(Tokenize(1, "<|im_end|>", special))
    assert (request.kind, request.text) == (Kind.TOKENIZE, "<|im_end|>")
    assert request.parse_special is special
    assert not resolved(Complete(1, "<|im_end|>")).parse_special


@pytest.mark.parametrize(
    ("configured", "asked", "wanted"),
    [
        ("auto", None, Thinking.MODEL),
        ("on", None, Thinking.PREFERRED),
        ("off", None, Thinking.OFF),
        # Only who asks for it is refused where it cannot be had.
        ("off", True, Thinking.REQUIRED),
        ("on", False, Thinking.OFF),
    ],
)
def test_a_chat_thinks_as_its_client_says_and_else_as_configured(
    configured: str, asked: bool | None, wanted: Thinking
) -> None:
    for message in (Chat(1, ASKED, thinking=asked), Prefill(1, messages=ASKED, thinking=asked)):
        assert resolved(message, thinking=configured).thinking is wanted


INTERACTIVE, BACKGROUND = Priority.INTERACTIVE, Priority.BACKGROUND


@pytest.mark.parametrize(
    ("message", "usual"),
    [
        (Chat(1, ASKED), INTERACTIVE),
        (Complete(1, "hello"), INTERACTIVE),
        (Prefill(1, messages=ASKED), BACKGROUND),
        (Prefill(1, prompt="hello"), BACKGROUND),
        # What a person is typing right now is as urgent as the chat that follows.
        (Prefill(1, messages=ASKED, partial=True), INTERACTIVE),
    ],
)
def test_only_what_is_prefilled_for_later_is_background_unless_told(
    message: Chat | Complete | Prefill, usual: Priority
) -> None:
    assert resolved(message).priority is usual
    assert resolved(replace(message, priority="interactive")).priority is INTERACTIVE
    assert resolved(replace(message, priority="background")).priority is BACKGROUND
