"""Bytes of tokens to text: the same text however the bytes are split (A7)."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.detokenizer import Detokenizer


def texts(pieces: list[bytes]) -> list[str]:
    """The text that comes with each piece, and at last the text of the end."""
    detokenizer = Detokenizer()
    return [*[detokenizer.feed(piece) for piece in pieces], detokenizer.finish()]


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[left:right] for left, right in itertools.pairwise(edges)]


@pytest.mark.row("A7")
@pytest.mark.parametrize("byte", range(256))
def test_each_single_byte_comes_out_as_python_decodes_it(byte: int) -> None:
    data = bytes((byte,))
    assert "".join(texts([data])) == data.decode("utf-8", "replace")


@pytest.mark.row("A7")
def test_random_characters_survive_every_random_split() -> None:
    # 1. 5,000 texts of 1-8 characters of 1 to 4 bytes  2. cut at random places, also within
    # characters  3. the pieces' texts joined are the text.
    rng = random.Random(7)
    ranges = ((0x00, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    for _ in range(5_000):
        text = "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(1, 8)))
        data = text.encode()
        cuts = [rng.randint(0, len(data)) for _ in range(rng.randint(0, len(data)))]
        assert "".join(texts(split(data, cuts))) == text


@pytest.mark.row("A7")
def test_ten_thousand_characters_survive_every_split_of_their_bytes() -> None:
    rng = random.Random(10)
    ranges = ((0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF))
    for _ in range(10_000):
        character = chr(rng.randint(*rng.choice(ranges)))
        data = character.encode()
        inside = range(1, len(data))
        for count in range(len(data)):
            for cuts in itertools.combinations(inside, count):
                pieces = split(data, list(cuts))
                # It comes with its last byte: not before, and not at the end only.
                assert texts(pieces) == [""] * (len(pieces) - 1) + [character, ""]


@pytest.mark.row("A7")
@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=12))
def test_any_bytes_in_any_split_decode_as_if_whole(data: bytes, cuts: list[int]) -> None:
    pieces = split(data, [min(cut, len(data)) for cut in cuts])
    assert "".join(texts(pieces)) == data.decode("utf-8", "replace")


@pytest.mark.row("A7")
@given(st.text(max_size=20))
def test_a_character_comes_with_its_last_byte_and_no_later(text: str) -> None:
    detokenizer = Detokenizer()
    said = ""
    for character in text:
        *body, last = character.encode("utf-8", "surrogatepass")
        if 0xD800 <= ord(character) <= 0xDFFF:
            continue
        for byte in body:
            assert detokenizer.feed(bytes((byte,))) == ""
        said += detokenizer.feed(bytes((last,)))
        assert said.endswith(character)
        assert not detokenizer.pending


@pytest.mark.row("A7")
@pytest.mark.parametrize("held", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
def test_an_end_within_a_character_is_one_replacement(held: bytes) -> None:
    detokenizer = Detokenizer()
    assert detokenizer.feed(held) == ""
    assert detokenizer.pending
    assert detokenizer.finish() == "�"
    assert not detokenizer.pending
