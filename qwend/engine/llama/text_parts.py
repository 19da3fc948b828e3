"""Where a long text may be cut before it is tokenized, without any token being another.

llama.cpp takes 0.2 to 1.2 s for a MiB, and in that time nobody else gets a token. A text is
therefore tokenized in parts, which end

- behind tokens that are found as a whole: llama.cpp looks for control and user-defined tokens
  before anything else, and tokenizes what stands between two of them apart. It puts each into a
  list that it walks from its beginning again (tokenizer_st_partition, llama-vocab.cpp): a MiB of
  100,000 `<|im_end|>` took 55 s;
- where a word certainly ends (`word_ends.py`).

Knows nothing of llama.cpp's handles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from qwend.engine.llama.word_ends import WordEnds

SHORT_BYTES = 8 * 1024
"""Not looked at: at most 10 ms, and 8 ms of walking for 1,100 times `<think>`."""
PART_BYTES = 4 * 1024
"""1 to 5 ms (2-core x86-64 VM): less than a step of the smallest Qwen."""
LONGEST_BYTES = 32 * 1024
"""How far an end is looked for: what has none takes 40 ms, and looking for it 10."""
MOST_WHOLE = 500
"""Tokens found as a whole in one part: 1.5 ms of walking, beside what the part takes anyway."""


class TextParts:
    """whole: the texts of all tokens that are found as a whole. most: of them in one part.

    words: the tokenizer's words are known to end where `WordEnds` says.
    """

    def __init__(
        self, whole: Iterable[bytes], most: int = MOST_WHOLE, *, words: bool = False
    ) -> None:
        # The longest first, as llama.cpp has them.
        texts = sorted({text for text in whole if text}, key=lambda text: (-len(text), text))
        self._pattern = re.compile(b"|".join(map(re.escape, texts))) if texts else None
        self._longest = max(map(len, texts), default=0)
        self._word_ends = WordEnds(texts) if words else None
        self._most = most

    def of(self, data: bytes, size: int = PART_BYTES) -> Iterator[bytes]:
        """The text in parts of at least `size` bytes but for the last, and little more where that
        is possible. From where it cannot be cut for LONGEST_BYTES, all the rest is one part."""
        start = 0
        while start < len(data):
            end = self._end(data, start, size)
            yield data[start:end]
            start = end

    def _end(self, data: bytes, start: int, size: int) -> int:
        horizon = min(start + LONGEST_BYTES, len(data))
        word = self._word_end(data, start, size, horizon)
        whole, enough = self._whole(data, start, word or horizon, size)
        if whole and (enough or not word):
            return whole
        return word or len(data)

    def _word_end(self, data: bytes, start: int, size: int, horizon: int) -> int | None:
        if self._word_ends is None:
            return None
        word = self._word_ends.first(data, start + size, horizon)
        if word is None and horizon < len(data):
            # A long word follows: it is to be a part of its own.
            word = self._word_ends.last(data, start + 1, min(start + size, horizon))
        return word

    def _whole(self, data: bytes, start: int, end: int, size: int) -> tuple[int, bool]:
        """Behind the last token found as a whole up to `end`, and whether there is enough for a
        part before it; 0: there is none."""
        behind = 0
        if self._pattern is not None:
            found = self._pattern.finditer(data, start, end + self._longest)
            for count, token in enumerate(found, 1):
                if token.end() > end:
                    break
                behind = token.end()
                if count == self._most or behind - start >= size:
                    return behind, True
        return behind, False
