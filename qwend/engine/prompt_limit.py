"""A prompt that cannot fit is refused as soon as that is certain, not after all of it is tokenized.

A MiB takes up to 1.8 s (a million newlines, the vocabulary of Qwen2.5, 2-core x86-64 VM), and all
that time the engine does nothing else. Knows nothing of requests or turns.
"""

from __future__ import annotations

from qwend.engine.template import Tokenize
from qwend.errors import RequestError

SLICE_CHARS = 32 * 1024
"""What is not longer is tokenized at once: at most 60 ms."""
CUT_TOKENS = 256
"""A cut makes more tokens of one, or of the few around it; the longest token has 128 characters."""


FAR_BEYOND = 2
"""So many times the limit, nobody needs to know exactly: 9,000 turns are 27,000 pieces, 0.5 s."""


class PromptLimit:
    """Tokenizes the pieces of one prompt, which has at most `limit` tokens."""

    def __init__(self, tokenize: Tokenize, limit: int) -> None:
        self._tokenize = tokenize
        self._limit = limit
        self._count = 0

    def __call__(self, text: str, parse_special: bool) -> list[int]:
        """Raises: RequestError (context_exceeded) where a long text or many make too many."""
        if self._count > FAR_BEYOND * self._limit:
            raise context_exceeded(f"more than {self._count}", self._limit)
        self._look_ahead(text, parse_special)
        tokens = self._tokenize(text, parse_special)
        self._count += len(tokens)
        return tokens

    def _look_ahead(self, text: str, parse_special: bool) -> None:
        certain = self._count
        for start in range(0, len(text) - SLICE_CHARS, SLICE_CHARS):
            part = text[start : start + SLICE_CHARS]
            certain += max(0, len(self._tokenize(part, parse_special)) - CUT_TOKENS)
            if certain > self._limit:
                raise context_exceeded(f"more than {certain}", self._limit)


def context_exceeded(tokens: int | str, limit: int) -> RequestError:
    return RequestError(
        f"the prompt is {tokens} tokens and the context holds {limit}, of which at "
        "least one must be left for the answer: shorten the prompt, or raise "
        "`context` under [model] if the model allows it",
        code="context_exceeded",
    )
