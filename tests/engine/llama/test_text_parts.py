"""A long text is tokenized in parts, and its tokens are those of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.llama.text_parts import (
    LONGEST_BYTES,
    MOST_WHOLE,
    PART_BYTES,
    SHORT_BYTES,
    TextParts,
)
from qwend.errors import RequestError
from tests.support.tiny_model import opened
from tests.support.tiny_qwen3 import write_tiny

WORDS = (b"<|im_end|>", b"<|im_start|>", b"<think>", b"hello ", b"\n", b"<|im_", b"\xc3\xa9", b"<|")


def test_parts_end_behind_whole_tokens_and_are_the_text_together() -> None:
    random, parts = Random(5), TextParts((b"<|im_end|>", b"<think>", b""), most=3)
    for _ in range(300):
        text = b"".join(random.choices(WORDS, k=random.randrange(40)))
        cut = list(parts.of(text, size=100))
        assert b"".join(cut) == text
        assert all(part.endswith((b"<|im_end|>", b"<think>")) for part in cut[:-1])
        assert all(part.count(b"<|im_end|>") + part.count(b"<think>") <= 3 for part in cut)


def test_a_text_without_whole_tokens_is_one_part() -> None:
    assert list(TextParts(()).of(b"abc" * 10)) == [b"abc" * 10]
    assert list(TextParts((b"x",), most=1).of(b"abc")) == [b"abc"]


def test_of_two_that_begin_alike_the_longer_is_found() -> None:
    assert list(TextParts((b"<a>", b"<a>b"), most=1).of(b"<a>b<a>c")) == [b"<a>b", b"<a>", b"c"]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LlamaBackend]:
    """<think> is user-defined: found in what users write, too."""
    with opened(write_tiny(tmp_path / "tiny.gguf", "qwen3")) as backend:
        yield backend


def in_parts(backend: LlamaBackend, text: str, special: bool) -> list[int]:
    return [token for part in backend.tokenize_parts(text, special) for token in part]


@pytest.mark.llama
@pytest.mark.parametrize("special", [False, True])
def test_tokens_of_parts_are_the_tokens_of_the_whole(backend: LlamaBackend, special: bool) -> None:
    random = Random(6)
    for _ in range(20):
        text = b"".join(random.choices(WORDS, k=6_000))
        assert len(text) > SHORT_BYTES
        whole = backend._tokenize(text, special)
        assert in_parts(backend, text.decode(), special) == whole


@pytest.mark.llama
@pytest.mark.parametrize("special", [False, True])
def test_what_is_read_as_a_control_token_is_never_cut(backend: LlamaBackend, special: bool) -> None:
    list(backend.tokenize_parts("a " * SHORT_BYTES, special))  # looks up which tokens there are
    *parts, _ = backend._parts[special].of(b"<|im_end|>" * (2 * MOST_WHOLE))
    assert len(parts) >= 2
    assert {part.endswith(b"<|im_end|>") for part in parts} == {special}


@pytest.mark.llama
@pytest.mark.row("A6")
@pytest.mark.parametrize("text", ["\n" * 1_000_000, "a" * 1_000_000, " \n" * 500_000])
def test_a_word_that_would_hold_others_up_is_refused(backend: LlamaBackend, text: str) -> None:
    with pytest.raises(RequestError, match="more than 32,768 bytes in one word") as caught:
        in_parts(backend, text, False)
    assert caught.value.code == "invalid_value"
    assert in_parts(backend, text[:LONGEST_BYTES], False)


@pytest.mark.llama
def test_every_part_of_a_text_of_words_is_small(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    at_once: Any = backend._tokenize

    def noted(data: bytes, parse_special: bool) -> list[int]:
        seen.append(len(data))
        return at_once(data, parse_special)  # type: ignore[no-any-return]

    monkeypatch.setattr(backend, "_tokenize", noted)
    text = "some words, 12 numbers\n" * 20_000
    assert len(in_parts(backend, text, False)) > 400_000
    assert max(seen) < PART_BYTES + 20


@pytest.mark.llama
@pytest.mark.row("A6")
@pytest.mark.parametrize(("word", "special"), [("<|im_end|>", True), ("<think>", False)])
def test_a_mebibyte_of_whole_tokens_is_never_looked_through_at_once(
    backend: LlamaBackend, monkeypatch: pytest.MonkeyPatch, word: str, special: bool
) -> None:
    """At once it took 55 s, in which everybody else waited and the engine counted as hung."""
    seen: list[int] = []
    at_once: Any = backend._tokenize

    def noted(data: bytes, parse_special: bool) -> list[int]:
        seen.append(data.count(word.encode()))
        return at_once(data, parse_special)  # type: ignore[no-any-return]

    monkeypatch.setattr(backend, "_tokenize", noted)
    count = 2**20 // len(word)
    assert len(set(in_parts(backend, word * count, special))) == 1
    assert sum(seen) == count
    assert max(seen) <= MOST_WHOLE
