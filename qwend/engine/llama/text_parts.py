"""Where a long text may be cut before it is tokenized: behind tokens that are found as a whole.

llama.cpp looks for control and user-defined tokens before anything else, and puts each into a list
that it walks from its beginning again (tokenizer_st_partition, llama-vocab.cpp): a MiB of 100,000
`<|im_end|>` took 55 s, in which no other stream gets a token and the engine counts as hung. What
stands between two of them is tokenized apart anyway, so a cut behind one changes nothing.

Knows nothing of llama.cpp's handles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

SHORT_BYTES = 16 * 1024
"""Not looked at: it has room for 2,300 times `<think>`, which take 30 ms."""
MOST_WHOLE = 500
"""Tokens found as a whole in one part: 1.5 ms of walking, beside what the part takes anyway."""


class TextParts:
    """whole: the texts of all tokens that are found as a whole. most: of them in one part."""

    def __init__(self, whole: Iterable[bytes], most: int = MOST_WHOLE) -> None:
        # The longest first, as llama.cpp has them.
        texts = sorted({text for text in whole if text}, key=lambda text: (-len(text), text))
        self._pattern = re.compile(b"|".join(map(re.escape, texts))) if texts else None
        self._most = most

    def of(self, data: bytes) -> Iterator[bytes]:
        """The text in parts; of a text without such tokens the one part is all of it."""
        start = 0
        if self._pattern is not None:
            for count, found in enumerate(self._pattern.finditer(data), 1):
                if count % self._most == 0:
                    yield data[start : found.end()]
                    start = found.end()
        yield data[start:]
