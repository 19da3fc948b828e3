"""Reasoning is kept apart from content, wherever the text is cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.reasoning import ReasoningSplitter, Split

# Texts in which tags, and what looks like them, are likely.
PARTS = ("<think>", "</think>", "<", "</", "think>", "</th", "\n", "\n\n", " ", "a", "é", "x<y")
answers = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


def split(text: str, *, opened: bool = False, size: int = 1) -> Split:
    """What comes of a whole answer, fed in pieces of `size` characters."""
    splitter = ReasoningSplitter(opened=opened)
    whole = Split()
    for at in range(0, len(text), size):
        whole += splitter.feed(text[at : at + size])
    return whole + splitter.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("", "", ""),
        ("Hello", "", "Hello"),
        ("<think>\nHm.\n\nWell.\n</think>\n\nHello\n", "Hm.\n\nWell.", "Hello\n"),
        ("<think>\n\n</think>\n\nHello", "", "Hello"),
        ("<think>Hm</think>Hello", "Hm", "Hello"),
        (" \n<think>Hm</think>Hello", "Hm", "Hello"),
        ("<think>\nand no end\n", "and no end", ""),
        ("<think>a < b </ c</think>d", "a < b </ c", "d"),
        ("<think>broken off </thi", "broken off </thi", ""),
        ("<think>a</think>say <think>b</think>", "a", "say <think>b</think>"),
        ("It writes <think>so</think>", "", "It writes <think>so</think>"),
        ("<thinking>Hello", "", "<thinking>Hello"),
        ("  Hello", "", "  Hello"),
        ("<thi", "", "<thi"),
        (" \n", "", " \n"),
    ],
)
def test_an_answer_is_split_at_its_tags(text: str, reasoning: str, content: str, size: int) -> None:
    found = split(text, size=size)
    assert (found.reasoning, found.content) == (reasoning, content)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_where_the_prompt_has_opened_it_the_answer_begins_as_reasoning(size: int) -> None:
    found = split("\nHm.\n</think>\n\nHello", opened=True, size=size)
    assert (found.reasoning, found.content) == ("Hm.", "Hello")


def test_reasoning_is_released_as_it_comes() -> None:
    splitter = ReasoningSplitter(opened=False)
    assert splitter.feed("<think>") == Split(dropped=7)
    assert splitter.feed("\n") == Split(dropped=1)
    assert splitter.feed("Hm") == Split("Hm")
    assert splitter.feed(" <b") == Split(" <b")
    assert splitter.feed("\n</") == Split()
    assert splitter.held == "\n</"
    assert splitter.feed("think>\n\nYes") == Split(content="Yes", dropped=11)
    assert splitter.feed("</") == Split(content="</")


@given(answers, st.integers(1, 5), st.booleans())
def test_the_pieces_make_no_difference_and_every_character_is_accounted_for(
    text: str, size: int, opened: bool
) -> None:
    pieces, whole = (split(text, opened=opened, size=each) for each in (size, len(text) + 1))
    assert pieces == whole
    assert len(whole.reasoning) + len(whole.content) + whole.dropped == len(text)


@given(answers, st.integers(1, 5), st.booleans())
def test_it_is_the_split_that_qwens_own_template_makes(text: str, size: int, opened: bool) -> None:
    """The same as models/templates/Qwen-Qwen3-0.6B.jinja does with an answer that has one block
    at its beginning."""
    found = split(text, opened=opened, size=size)
    begun = opened or text.lstrip().startswith("<think>")
    if not begun:
        assert found == Split(content=text)
        return
    body = text if opened else text.lstrip().removeprefix("<think>")
    reasoning, tag, content = body.partition("</think>")
    assert found.content == (content.lstrip("\n") if tag else "")
    assert found.reasoning == reasoning.strip("\n")
