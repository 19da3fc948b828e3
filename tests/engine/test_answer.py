"""Ids and text leave in pairs: contiguous, complete, and nothing of what is held back."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.answer import Release, extend_answer, flush_answer
from qwend.engine.reasoning import ReasoningSplitter
from qwend.engine.sequence import Sequence, Times
from tests.support.engine import ask


def sequence(*stops: str) -> Sequence:
    return Sequence(ask(stop=stops), (1,), 100, Times(0.0), credit=100)


def thinking(*stops: str, opened: bool = False) -> Sequence:
    one = sequence(*stops)
    one.reasoning = ReasoningSplitter(opened=opened)
    return one


def produce(one: Sequence, pieces: SequenceOf[bytes]) -> list[Release]:
    """Each piece is a token, numbered from 0, until a stop string ends the answer."""
    releases = []
    for token, data in enumerate(pieces):
        releases.append(extend_answer(one, token, data))
        if one.stop.matched is not None:
            return [release for release in releases if release is not None]
    releases.append(flush_answer(one))
    return [release for release in releases if release is not None]


def ids_and_text(releases: SequenceOf[Release]) -> tuple[list[int], str]:
    ids: list[int] = []
    for release in releases:
        assert release.index == len(ids), "ids are contiguous"
        ids += release.ids
    return ids, "".join(release.text for release in releases)


def test_each_token_goes_out_with_its_text() -> None:
    assert produce(sequence(), [b"a", b"bc"]) == [Release(0, (0,), "a"), Release(1, (1,), "bc")]


def test_the_parts_of_a_character_go_out_together_when_it_is_whole() -> None:
    assert produce(sequence(), [b"a", b"\xc3", b"\xa9"]) == [
        Release(0, (0,), "a"),
        Release(1, (1, 2), "é"),
    ]


def test_half_a_character_at_the_end_goes_out_as_a_replacement() -> None:
    assert produce(sequence(), [b"a", b"\xf0\x9f"]) == [
        Release(0, (0,), "a"),
        Release(1, (1,), "�"),
    ]


def test_a_token_whose_text_is_partly_held_goes_out_when_it_is_whole() -> None:
    assert produce(sequence("ab"), [b"xa", b"c"]) == [
        Release(0, (), "x"),
        Release(0, (0, 1), "ac"),
    ]


def test_the_tokens_of_a_stop_string_never_go_out() -> None:
    one = sequence("STOP")
    ids, text = ids_and_text(produce(one, [b"he", b"y", b"ST", b"OP", b"more"]))
    assert (ids, text) == ([0, 1], "hey")
    assert one.stop.matched == "STOP"


def test_a_stop_that_waited_for_an_earlier_one_is_found_at_the_end() -> None:
    one = sequence("abcd", "bc")
    ids, text = ids_and_text(produce(one, [b"a", b"b", b"c"]))
    assert (ids, text) == ([0], "a")
    assert one.stop.matched == "bc"


def test_tokens_without_text_go_out_at_the_end() -> None:
    assert ids_and_text(produce(sequence(), [b"a", b"", b""])) == ([0, 1, 2], "a")


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_without_stops_every_id_goes_out_and_the_text_is_that_of_all_bytes(
    pieces: list[bytes],
) -> None:
    ids, text = ids_and_text(produce(sequence(), pieces))
    assert ids == list(range(len(pieces)))
    assert text == b"".join(pieces).decode("utf-8", "replace")


@given(
    st.lists(st.text("ab", max_size=3), max_size=10),
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_with_stops_no_id_goes_out_before_all_of_its_text(
    pieces: list[str], stops: list[str]
) -> None:
    one = sequence(*stops)
    said, ids = "", 0
    for release in produce(one, [piece.encode() for piece in pieces]):
        said += release.text
        ids += len(release.ids)
        assert len("".join(pieces[:ids])) <= len(said)
    whole = "".join(pieces)
    found = [whole.find(stop) for stop in stops if stop in whole]
    assert said == (whole[: min(found)] if found else whole)
    if not found:
        assert ids == len(pieces)


# Reasoning


def test_reasoning_goes_out_apart_and_its_tags_with_what_follows_them() -> None:
    pieces = [b"<think>", b"\n", b"Hm", b".\n", b"</think>", b"\n\n", b"Hi", b"!"]
    assert produce(thinking(), pieces) == [
        Release(0, (0, 1, 2), "", "Hm"),
        Release(3, (), "", "."),
        Release(3, (3, 4, 5, 6), "Hi"),
        Release(7, (7,), "!"),
    ]


def test_one_token_may_end_the_reasoning_and_begin_the_content() -> None:
    assert produce(thinking(opened=True), [b"Hm", b".</think>Hi"]) == [
        Release(0, (0,), "", "Hm"),
        Release(1, (1,), "Hi", "."),
    ]


def test_a_stop_string_within_the_reasoning_ends_nothing() -> None:
    one = thinking("STOP")
    releases = produce(one, [b"<think>", b"STOP", b"</think>", b"go STOP", b"more"])
    assert releases == [Release(0, (0, 1), "", "STOP"), Release(2, (2,), "go ")]
    assert one.stop.matched == "STOP"


def test_a_stop_string_does_not_begin_in_the_reasoning() -> None:
    one = thinking("ab")
    ids, text = ids_and_text(produce(one, [b"<think>a", b"</think>", b"b"]))
    assert (ids, text) == ([0, 1, 2], "b")
    assert one.stop.matched is None


def test_an_answer_cut_off_while_it_reasons_has_no_content() -> None:
    releases = produce(thinking(), [b"<think>", b"so", b"\n"])
    assert releases == [Release(0, (0, 1), "", "so"), Release(2, (2,), "")]


@given(
    st.lists(
        st.sampled_from(("<think>", "</think>", "<thi", "nk>", "</", "\n", "a", "ab", "b")),
        max_size=12,
    ),
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=2),
    st.booleans(),
)
def test_with_reasoning_every_id_goes_out_and_none_before_its_text_is_settled(
    pieces: list[str], stops: list[str], opened: bool
) -> None:
    one = thinking(*stops, opened=opened)
    whole = ReasoningSplitter(opened=opened)
    split = whole.feed("".join(pieces)) + whole.finish()
    releases = produce(one, [piece.encode() for piece in pieces])
    ids, text = ids_and_text(releases)
    reasoning = "".join(release.reasoning for release in releases)
    found = [split.content.find(stop) for stop in stops if stop in split.content]
    assert reasoning == split.reasoning
    assert text == (split.content[: min(found)] if found else split.content)
    if not found:
        assert ids == list(range(len(pieces)))
        return
    # What a stop string has cut off does not go out.
    kept = len("".join(pieces)) - len(split.content) + min(found)
    assert len("".join(pieces[: len(ids)])) <= kept
