"""A text that is far too long is refused early, whatever it is for."""

from __future__ import annotations

import pytest

from qwend.engine.prompt import prompt_tokens
from qwend.engine.prompt_limit import COUNTED_ANYWAY, FAR_BEYOND, MOST_TOLD
from qwend.engine.request import ChatTurn, Kind
from qwend.engine.scripted import PART_CHARS, Script, ScriptedBackend
from qwend.errors import RequestError
from qwend.wire.limits import ARRAY_ENTRIES
from tests.support.engine import ask

LONG = 100 * PART_CHARS


class Counted(ScriptedBackend):
    """Notes how many characters it was given."""

    given = 0

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        self.given += len(text)
        return super().tokenize(text, parse_special)


@pytest.mark.row("A6")
@pytest.mark.parametrize("chat", [True, False])
def test_a_text_that_cannot_fit_is_tokenized_only_so_far(chat: bool) -> None:
    backend = Counted(Script(), cells=1_000)
    prompt = [ChatTurn("user", "x" * LONG)] if chat else "x" * LONG
    with pytest.raises(RequestError, match=r"more than .* the context holds 1000") as caught:
        prompt_tokens(ask(prompt), backend)
    assert caught.value.code == "context_exceeded"
    assert backend.given <= COUNTED_ANYWAY + PART_CHARS + 100  # of what stands around the turns


@pytest.mark.row("A6")
def test_of_ten_thousand_turns_only_so_many_are_tokenized() -> None:
    backend = Counted(Script(), cells=1_000)
    all_of_it = 10_000 * len("<|im_start|>user\nhi<|im_end|>\n")
    with pytest.raises(RequestError, match="more than") as caught:
        prompt_tokens(ask([ChatTurn("user", "hi")] * 10_000), backend)
    assert caught.value.code == "context_exceeded"
    assert backend.given < all_of_it / 2


def test_what_is_a_little_too_long_is_counted_to_the_end() -> None:
    backend = Counted(Script(), cells=1_000)
    assert len(prompt_tokens(ask([ChatTurn("user", "x" * 100)] * 12), backend)) > 1_000


def test_to_be_tokenized_a_text_may_be_longer_than_the_context() -> None:
    backend = Counted(Script(), cells=1_000)
    assert len(prompt_tokens(ask("x" * MOST_TOLD, kind=Kind.TOKENIZE), backend)) == MOST_TOLD


def test_of_a_large_context_so_many_times_are_counted() -> None:
    backend = Counted(Script(), cells=50_000)
    assert len(prompt_tokens(ask("x" * FAR_BEYOND * 50_000), backend)) == FAR_BEYOND * 50_000
    with pytest.raises(RequestError):
        prompt_tokens(ask("x" * (FAR_BEYOND * 50_000 + 1)), backend)


@pytest.mark.row("A6")
def test_what_no_message_could_carry_is_tokenized_only_so_far() -> None:
    backend = Counted(Script())
    with pytest.raises(
        RequestError, match=r"more than 131,072 tokens.* send it in parts"
    ) as caught:
        prompt_tokens(ask("x" * 10 * MOST_TOLD, kind=Kind.TOKENIZE), backend)
    assert caught.value.code == "invalid_value"
    assert backend.given <= MOST_TOLD + PART_CHARS


def test_a_message_can_carry_as_many_ids_as_the_engine_thinks() -> None:
    assert MOST_TOLD == ARRAY_ENTRIES
