from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.cli.wrap import Wrapper


def screen(written: str, columns: int) -> list[str]:
    """What a terminal shows of it: text, line feeds, and the two sequences for taking back."""
    lines = [""]
    for part in re.findall(r"\x1b\[\d+D|\x1b\[K|\n|.", written, re.DOTALL):
        if part == "\n":
            lines.append("")
        elif part.endswith("D") and part.startswith("\x1b"):
            lines[-1] = lines[-1][: len(lines[-1]) - int(part[2:-1])]
        elif part != "\x1b[K":
            if len(lines[-1]) == columns:
                lines.append("")
            lines[-1] += part
    return lines


def shown(*pieces: str, columns: int = 11) -> list[str]:
    wrapper = Wrapper(lambda: columns)
    return screen("".join(wrapper.feed(piece) for piece in pieces), columns)


def test_a_word_that_does_not_fit_moves_to_the_next_line() -> None:
    assert shown("one two three") == ["one two ", "three"]


def test_it_moves_though_half_of_it_is_shown_already() -> None:
    assert shown("one two th", "ree", " four") == ["one two ", "three four"]


def test_a_space_at_the_margin_becomes_the_line_feed() -> None:
    assert shown("1234567890 x") == ["1234567890", "x"]


def test_line_feeds_of_the_model_stay() -> None:
    assert shown("one\n\ntwo") == ["one", "", "two"]


def test_a_word_longer_than_the_line_is_left_to_the_terminal() -> None:
    assert shown("see https://example.org/long") == ["see ", "https://exa", "mple.org/lo", "ng"]


def test_preformatted_text_gets_no_line_feeds_of_ours() -> None:
    code = "```\nx = 1 + 2 + 3 + 4\n```\n"
    wrapper = Wrapper(lambda: 11)

    assert wrapper.feed(code) == code
    assert wrapper.feed("one two three") == "one two th\x1b[2D\x1b[K\nthree"


def test_between_wide_characters_a_line_may_break() -> None:
    wrapper = Wrapper(lambda: 11)

    assert wrapper.feed("你好世界你好世界") == "你好世界你\n好世界"


def test_a_combining_mark_takes_no_room() -> None:
    assert Wrapper(lambda: 11).feed("e\u0301" * 10) == "e\u0301" * 10


def test_a_new_width_counts_from_the_next_piece_on() -> None:
    columns = 40
    wrapper = Wrapper(lambda: columns)
    written = wrapper.feed("one two ")
    columns = 11

    assert written + wrapper.feed("three") == "one two th\x1b[2D\x1b[K\nthree"


@pytest.mark.parametrize("columns", [2, 11, 80])
@given(pieces=st.lists(st.text("ab \n", max_size=12), max_size=12))
def test_words_and_their_order_are_never_changed(columns: int, pieces: list[str]) -> None:
    lines = shown(*pieces, columns=columns)

    assert max(map(len, lines)) <= columns
    if columns > 2 and max(map(len, "".join(pieces).split()), default=0) < columns:
        assert " ".join(lines).split() == "".join(pieces).split()
