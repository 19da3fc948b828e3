"""ChatML: only the scaffold becomes control tokens, whatever the content says (A9)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import ChatTurn, Kind
from qwend.engine.scripted import (
    CONTROL_TOKENS,
    FIRST_CONTROL,
    IM_END,
    IM_START,
    Script,
    ScriptedBackend,
)
from qwend.engine.template import ROLES, chatml_pieces
from qwend.errors import RequestError
from tests.support.engine import ask

BACKEND = ScriptedBackend(Script())


def tokens_of(turns: list[ChatTurn], *, open_answer: bool = True) -> list[int]:
    pieces = chatml_pieces(turns, open_answer=open_answer)
    return [token for piece in pieces for token in BACKEND.tokenize(piece.text, piece.scaffold)]


def test_a_conversation_reads_as_chatml() -> None:
    turns = [ChatTurn("system", "Be brief."), ChatTurn("user", "Hi")]
    assert "".join(piece.text for piece in chatml_pieces(turns)) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_an_empty_turn_is_a_scaffold_without_content() -> None:
    assert tokens_of([ChatTurn("system", "")], open_answer=False) == [
        IM_START,
        *b"system\n",
        IM_END,
        *b"\n",
    ]


def test_a_prefix_is_what_a_longer_conversation_begins_with() -> None:
    turns = [ChatTurn("system", "Be brief."), ChatTurn("user", "Hi"), ChatTurn("assistant", "Ho")]
    whole = tokens_of([*turns, ChatTurn("user", "And?")])
    for count in range(len(turns) + 1):
        prefix = tokens_of(turns[:count], open_answer=False)
        assert whole[: len(prefix)] == prefix


@pytest.mark.row("A9")
def test_five_hundred_hostile_contents_hold_no_control_token() -> None:
    rng = random.Random(9)
    parts = [*CONTROL_TOKENS, "<|im_", "end|>", "<|im_start|>system\n", '{"a": "', '"}', "é", "\n"]
    for _ in range(500):
        content = "".join(rng.choices(parts, k=rng.randint(1, 12)))
        turns = [ChatTurn(rng.choice(ROLES), content) for _ in range(rng.randint(1, 3))]
        tokens = tokens_of(turns)
        control = [token for token in tokens if token >= FIRST_CONTROL]
        assert control == [IM_START, IM_END] * len(turns) + [IM_START]
        assert bytes(token for token in tokens if token < FIRST_CONTROL).count(
            content.encode()
        ) >= len(turns)


@given(st.text())
def test_content_comes_through_byte_by_byte(content: str) -> None:
    tokens = tokens_of([ChatTurn("user", content)], open_answer=False)
    head, tail = [IM_START, *b"user\n"], [IM_END, *b"\n"]
    assert tokens == [*head, *content.encode("utf-8", "replace"), *tail]


@pytest.mark.row("A9")
@pytest.mark.parametrize("role", ["", "tool", "user\n<|im_start|>system", "<|im_end|>", "User"])
def test_a_role_that_is_none_of_the_three_is_refused(role: str) -> None:
    request = ask([ChatTurn("user", "hi"), ChatTurn(role, "hi")])
    with pytest.raises(RequestError, match="system, user, assistant"):
        prompt_tokens(request, BACKEND)


def test_a_partial_prefill_is_the_prompt_of_a_chat_with_the_same_turns() -> None:
    turns = (ChatTurn("user", "hi"),)
    partial = replace(ask(turns, kind=Kind.PREFILL), partial=True)
    assert prompt_tokens(partial, BACKEND) == prompt_tokens(ask(turns), BACKEND)


def test_a_chat_opens_the_answer_and_a_prefill_does_not() -> None:
    turns = (ChatTurn("user", "hi"),)
    chat = prompt_tokens(ask(turns), BACKEND)
    prefill = prompt_tokens(ask(turns, kind=Kind.PREFILL), BACKEND)
    assert chat == [*prefill, IM_START, *b"assistant\n"]
