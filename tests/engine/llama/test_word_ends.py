"""Where a word certainly ends: a cut there changes no token.

The vocabulary here is made for it: any two of its characters that stand side by side in a word are
one token, or might be, so that nearly every cut within a word would show. It is loaded without a
model, for each kind of pre-tokenizer that Qwen's models have.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random

import gguf
import pytest

from qwend.engine.llama import text_parts
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.llama.text_parts import LONGEST_BYTES, TextParts
from qwend.engine.llama.word_ends import PRE_TOKENIZERS, WordEnds
from tests.support.tiny_model import byte_tokens

WHOLE = b"<|end|>"
# Letters, digits, white space, punctuation; a mark, which only Qwen3.5 takes for a part of a word;
# U+1885, of which Unicode has changed its mind; and what stands in a control token.
CHARACTERS = "aEst12 \n\r\t!'.<|>éя的の，。\u0301\u1885\u00a0\u3000😀\0"
NORMAL, CONTROL = 1, 3  # enum llama_token_type, llama.h


class Vocabulary:
    """llama.cpp's tokenizer with the words of `pre`."""

    def __init__(self, path: Path, pre: str) -> None:
        write_vocabulary(path, pre)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self._model
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)

    def tokens(self, data: bytes, special: bool) -> list[int]:
        room = (llama_cpp.llama_token * (len(data) + 1))()
        size = len(data)
        count = llama_cpp.llama_tokenize(self._vocab, data, size, room, size + 1, False, special)
        return list(room[:count])

    def close(self) -> None:
        llama_cpp.llama_model_free(self._model)


def write_vocabulary(path: Path, pre: str) -> None:
    of_byte = byte_tokens()
    spelled = [[of_byte[byte] for byte in one.encode()] for one in CHARACTERS]
    merges, tokens = [], list(of_byte)
    for letters in spelled:
        for at in range(1, len(letters)):
            merges.append(f"{''.join(letters[:at])} {letters[at]}")
            tokens.append("".join(letters[: at + 1]))
    pairs = ["".join(one) for one in spelled]
    for left, right in Random(3).sample(list(product(pairs, pairs)), len(pairs) ** 2):
        merges.append(f"{left} {right}")
        tokens.append(left + right)
    tokens = list(dict.fromkeys(tokens))
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([*tokens, WHOLE.decode()])
    writer.add_token_types([NORMAL] * len(tokens) + [CONTROL])
    writer.add_token_merges(merges)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


@pytest.fixture(params=sorted(PRE_TOKENIZERS))
def vocabulary(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vocabulary]:
    opened = Vocabulary(tmp_path / "words.gguf", request.param)
    yield opened
    opened.close()


def drawn(draw: Random) -> str:
    """A text of a few kinds of characters, in runs as often as not."""
    some = draw.sample(CHARACTERS, draw.randint(1, 6))
    longest = draw.choice((1, 1, 8))
    return "".join(draw.choice(some) * draw.randint(1, longest) for _ in range(draw.randint(1, 80)))


@pytest.mark.llama
@pytest.mark.row("A6")
@pytest.mark.parametrize("longest", [LONGEST_BYTES, 20])
@pytest.mark.parametrize("special", [False, True])
def test_tokens_of_parts_are_those_of_the_whole(
    vocabulary: Vocabulary, special: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_parts, "LONGEST_BYTES", longest)
    draw = Random(11)
    parts, cuts = TextParts([WHOLE] if special else [], words=True), 0
    for _ in range(600):
        data = drawn(draw).encode()
        if draw.random() < 0.3:
            data = data.replace(b"!", WHOLE)
        cut = list(parts.of(data, size=draw.choice((1, 2, 5))))
        assert b"".join(cut) == data
        found = [token for part in cut for token in vocabulary.tokens(part, special)]
        assert found == vocabulary.tokens(data, special), (data, cut)
        cuts += len(cut) - 1
    assert cuts > 1_000


@pytest.mark.llama
def test_this_vocabulary_shows_where_words_end(vocabulary: Vocabulary) -> None:
    """Else the test above would prove nothing."""
    for text, cut in ((b"ss", 1), (b" s", 1), (b"!!", 1), (b"\n\n", 1), (b"!\n", 1), (b"!s", 1)):
        assert vocabulary.tokens(text, False) != [
            *vocabulary.tokens(text[:cut], False),
            *vocabulary.tokens(text[cut:], False),
        ], text


def ends(text: str, *whole: bytes) -> list[str]:
    """The text, cut wherever a word certainly ends."""
    data, parts, start = text.encode(), [], 0
    while (end := WordEnds(whole).first(data, start + 1, len(data))) is not None:
        parts.append(data[start:end].decode())
        start = end
    return [*parts, data[start:].decode()]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("one two", ["one", " two"]),
        ("it's so", ["it", "'s", " so"]),
        ("a1b23", ["a", "1b", "2", "3"]),
        ("x = y + 2", ["x", " =", " y", " +", " 2"]),
        ("end.\n\nNew", ["end", ".\n\n", "New"]),
        ("你好，世界。", ["你好", "，世界", "。"]),
        ("было так", ["было", " так"]),
        ("a\u0301 b", ["a\u0301 b"]),
        ("   \n\n   ", ["   \n\n   "]),
        ("!?!?", ["!?!?"]),
        ("😀 😀", ["😀 😀"]),
        ("\n😀\n\u3000\n", ["\n", "😀\n\u3000\n"]),
    ],
)
def test_a_word_ends_where_no_rule_could_go_on(text: str, parts: list[str]) -> None:
    assert ends(text) == parts


def test_no_end_is_within_a_token_that_is_found_as_a_whole() -> None:
    assert ends("a<|b_c|>d e") == ["a", "<|b", "_c", "|>d", " e"]
    assert ends("a<|b_c|>d e", b"<|b_c|>") == ["a<|b_c|>d", " e"]
    assert ends("a\nb", b"\n\n") == ["a\nb"]


def test_a_long_word_is_a_part_of_its_own() -> None:
    words, word = b"some words " * 500, b"\n" * (LONGEST_BYTES - 2)
    sizes = list(map(len, TextParts((), words=True).of(words + word + words)))
    assert max(sizes) <= LONGEST_BYTES
    assert sum(sizes) == len(words + word + words)


def test_a_text_without_any_end_is_one_part_however_long() -> None:
    parts = TextParts((), words=True)
    for text in (b"\n" * 2 * LONGEST_BYTES, b"a" * 2 * LONGEST_BYTES):
        assert list(parts.of(text)) == [text]
    assert len(list(parts.of(b"a" * LONGEST_BYTES + b" " + b"b" * 5000))) == 1
    assert len(list(parts.of(b"a" * (LONGEST_BYTES - 1) + b" " + b"b" * 5000))) == 2
