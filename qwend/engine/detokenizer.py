"""Token bytes to text, one token at a time.

A character of several bytes may be spread over several tokens: its text comes with the token that
completes it, and bytes that can never become a character come out as U+FFFD.
"""

from __future__ import annotations

import codecs


class Detokenizer:
    """Incremental UTF-8. `feed` the bytes of each token; `finish` once at the end."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> str:
        return self._decoder.decode(data)

    def finish(self) -> str:
        """Text of an unfinished character at the end: one U+FFFD, or nothing."""
        return self._decoder.decode(b"", final=True)

    @property
    def pending(self) -> bool:
        """True while bytes of an unfinished character are held."""
        held, _ = self._decoder.getstate()
        return bool(held)
