"""Stop strings over token edges: cut at the earliest stop, whatever the chunks (A8)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.stop import StopMatcher


def cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """The oracle: the text up to the earliest stop, and whether there is one."""
    found = [text.find(stop) for stop in stops if stop and stop in text]
    return (text[: min(found)], True) if found else (text, False)


def stream(chunks: Sequence[str], stops: Sequence[str]) -> tuple[str, bool]:
    """Feed chunk by chunk as the engine does: nothing after a match, else finish."""
    matcher = StopMatcher(stops)
    released, fed = "", ""
    for chunk in chunks:
        fed += chunk
        released += matcher.feed(chunk)
        if matcher.matched is not None:
            break
        assert released + matcher.held == fed
        # What is out can be no part of a stop, not even of one that is still to be completed.
        assert cut(fed, stops)[0].startswith(released)
    released += matcher.finish()
    assert matcher.held == ""
    return released, matcher.matched is not None


def chunked(text: str, cuts: Sequence[int]) -> list[str]:
    edges = [0, *sorted(min(one, len(text)) for one in cuts), len(text)]
    return [text[left:right] for left, right in itertools.pairwise(edges)]


@pytest.mark.row("A8")
def test_ten_thousand_random_streams_are_cut_at_the_earliest_stop() -> None:
    # Few letters, so that stops overlap, begin each other and stand at the very end; two of
    # them of several bytes.
    rng = random.Random(8)
    for _ in range(10_000):
        letters = rng.choice(("ab", "abc", "aé😀"))
        text = "".join(rng.choices(letters, k=rng.randint(0, 14)))
        stops = [
            "".join(rng.choices(letters, k=rng.randint(1, 5))) for _ in range(rng.randint(1, 4))
        ]
        chunks = chunked(text, [rng.randint(0, len(text)) for _ in range(rng.randint(0, 8))])
        assert stream(chunks, stops) == cut(text, stops), (chunks, stops)


@pytest.mark.row("A8")
@given(
    st.text("ab", max_size=24),
    st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=4),
    st.lists(st.integers(0, 24), max_size=10),
)
def test_any_stream_is_cut_at_the_earliest_stop(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    assert stream(chunked(text, cuts), stops) == cut(text, stops)


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=10))
def test_without_stops_all_text_goes_out_at_once(text: str, cuts: list[int]) -> None:
    matcher = StopMatcher(())
    for chunk in chunked(text, cuts):
        assert matcher.feed(chunk) == chunk
    assert matcher.finish() == ""


def test_an_empty_stop_matches_nothing() -> None:
    assert stream(["ab"], [""]) == ("ab", False)


@pytest.mark.parametrize("stops", [("abc", "ab"), ("ab", "abc")])
def test_of_two_at_the_same_place_the_shorter_is_complete_first(stops: tuple[str, str]) -> None:
    for text in ("xab", "xabc"):
        matcher = StopMatcher(stops)
        assert matcher.feed(text) == "x"
        assert matcher.matched == "ab"


def test_a_stop_waits_for_an_earlier_one_that_may_still_complete() -> None:
    matcher = StopMatcher(("abcd", "bc"))
    assert matcher.feed("xabc") == ""
    assert matcher.matched is None
    assert matcher.feed("y") == "xa"
    assert matcher.matched == "bc"


def test_nothing_is_released_after_a_match() -> None:
    matcher = StopMatcher(("b",))
    assert matcher.feed("ab") == "a"
    assert matcher.feed("more") == ""
    assert matcher.finish() == ""


def test_held_text_goes_out_at_the_end_when_no_stop_came_of_it() -> None:
    matcher = StopMatcher(("stop",))
    assert matcher.feed("a sto") == "a "
    assert matcher.finish() == "sto"
    assert matcher.matched is None
