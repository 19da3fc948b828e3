"""A prompt that cannot fit is refused early, and one that can is tokenized as a whole."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qwend.engine.prompt import prompt_tokens
from qwend.engine.prompt_limit import CUT_TOKENS, SLICE_CHARS, PromptLimit
from qwend.engine.request import ChatTurn, Kind
from qwend.engine.scripted import Script, ScriptedBackend
from qwend.errors import RequestError
from tests.support.engine import ask

LONG = 10 * SLICE_CHARS


class Counted(ScriptedBackend):
    """Notes how many characters it was given."""

    given = 0

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        self.given += len(text)
        return super().tokenize(text, parse_special)


def by_words(text: str, parse_special: bool) -> list[int]:
    """A tokenizer for which a cut matters: a token is a run of equal characters."""
    runs = sum(1 for left, right in pairwise(text) if left != right)
    return list(range(runs + bool(text)))


@pytest.mark.row("A6")
@pytest.mark.parametrize("chat", [True, False])
def test_a_text_that_cannot_fit_is_tokenized_only_so_far(chat: bool) -> None:
    backend = Counted(Script(), cells=1_000)
    prompt = [ChatTurn("user", "x" * LONG)] if chat else "x" * LONG
    with pytest.raises(RequestError, match=r"more than .* the context holds 1000") as caught:
        prompt_tokens(ask(prompt), backend)
    assert caught.value.code == "context_exceeded"
    assert backend.given < 2 * SLICE_CHARS


@pytest.mark.row("A6")
def test_of_ten_thousand_turns_only_so_many_are_tokenized() -> None:
    backend = Counted(Script(), cells=1_000)
    with pytest.raises(RequestError, match="more than") as caught:
        prompt_tokens(ask([ChatTurn("user", "hi")] * 10_000), backend)
    assert caught.value.code == "context_exceeded"
    assert backend.given < 10_000


def test_what_is_a_little_too_long_is_counted_to_the_end() -> None:
    backend = Counted(Script(), cells=1_000)
    assert len(prompt_tokens(ask([ChatTurn("user", "x" * 100)] * 12), backend)) > 1_000


def test_what_came_before_counts() -> None:
    limit = PromptLimit(Counted(Script()).tokenize, limit=SLICE_CHARS + 10)
    assert len(limit("x" * SLICE_CHARS, False)) == SLICE_CHARS
    with pytest.raises(RequestError):
        limit("x" * (SLICE_CHARS + 1), False)


@pytest.mark.parametrize("length", [SLICE_CHARS, SLICE_CHARS + 1, LONG])
def test_a_long_text_that_fits_is_what_the_tokenizer_makes_of_the_whole(length: int) -> None:
    text = "aab" * (length // 3)
    tokens = by_words(text, False)
    assert PromptLimit(by_words, limit=len(tokens))(text, False) == tokens


def test_cuts_alone_refuse_nothing() -> None:
    # Each cut makes one token more of what is one token.
    assert PromptLimit(by_words, limit=1)("a" * LONG, False) == [0]
    assert CUT_TOKENS > 1


def test_to_be_tokenized_a_text_may_be_longer_than_the_context() -> None:
    backend = Counted(Script(), cells=1_000)
    assert len(prompt_tokens(ask("x" * LONG, kind=Kind.TOKENIZE), backend)) == LONG
