"""Where a word of a text certainly ends: no token before it depends on what stands behind it.

Qwen's tokenizers divide a text into words first, and look for tokens within each word alone. Both
kinds of them (LLAMA_VOCAB_PRE_TYPE_QWEN2 and _QWEN35 in llama-vocab.cpp) have these rules, of which
the first that matches counts, and none of which looks back:

    's 't 're ...  |  one that is no letter, digit or line break, and letters  |  one digit  |
    a space, punctuation and line breaks  |  white space up to its last line break  |  white space

So a word ends, whatever stands around it, behind a letter or digit before what is neither letter
nor mark; behind punctuation before a blank or a digit; and behind a line break before what is no
white space. Not every end is found, only what is one beyond doubt.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from unicodedata import ucd_3_2_0

PRE_TOKENIZERS = frozenset({"qwen2", "deepseek-r1-qwen", "qwen35"})
"""`tokenizer.ggml.pre` of those that divide so."""

_ASCII = bytes(range(128))
_NO_LETTERS = bytes(byte for byte in _ASCII if not chr(byte).isalpha())
_CHINESE = tuple(mark.encode() for mark in "、。，！？：；")
_CHINESE_BYTES = set(b"".join(_CHINESE))
# Letters of Unicode 3.2 that are none to llama.cpp (unicode-data.cpp), which goes by a later one;
# all others below U+10000 are.
_DOUBTFUL = "\u1885\u1886"
_LONGEST_CHARACTER = 4  # bytes
# First bytes of characters of which none is white space but U+3000.
_NO_SPACE = rb"[!-~\xc3-\xe0\xe4-\xf4]|\xe3(?!\x80\x80)"


class WordEnds:
    """whole: the texts of all tokens that are found before words are: no end is within one."""

    def __init__(self, whole: Iterable[bytes] = ()) -> None:
        within = set(b"".join(whole))
        rules = [
            rb"(?<=[A-Za-z0-9\x80-\xff])%s" % _one_of(_NO_LETTERS, within),
            rb"(?<=[!-/:-@\[-`{-~])%s" % _one_of(b" \t0123456789", within),
        ]
        if not within & _CHINESE_BYTES:
            rules.append(rb"(?<=[\x80-\xff])(?:%s)" % b"|".join(_CHINESE))
        if ord("\n") not in within:
            rules.append(rb"(?<=\n)(?:%s)" % _NO_SPACE)
        self._ends = re.compile(b"|".join(rules))

    def first(self, data: bytes, start: int, end: int) -> int | None:
        """The first position of these bytes, valid UTF-8, at which a word certainly ends."""
        return next(self._certain(data, start, end), None)

    def last(self, data: bytes, start: int, end: int) -> int | None:
        """The last such position."""
        return max(self._certain(data, start, end), default=None)

    def _certain(self, data: bytes, start: int, end: int) -> Iterator[int]:
        for found in self._ends.finditer(data, start, end):
            if data[found.start() - 1] < 128 or _is_behind_letter(data, found.start()):
                yield found.start()


def _is_behind_letter(data: bytes, at: int) -> bool:
    """The character that ends there is a letter, and not of ASCII."""
    before = data[max(0, at - _LONGEST_CHARACTER) : at].decode("utf-8", "ignore")[-1]
    return ucd_3_2_0.category(before)[0] == "L" and before <= "\uffff" and before not in _DOUBTFUL


def _one_of(characters: bytes, without: Container[int]) -> bytes:
    free = bytes(one for one in characters if one not in without)
    return b"[%s]" % re.escape(free) if free else b"(?!)"
