"""A text that is far too long is given up before all of it is tokenized.

A MiB takes up to 1.2 s (a million newlines, the vocabulary of Qwen2.5, 2-core x86-64 VM). Knows
nothing of requests or turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from qwend.errors import RequestError

FAR_BEYOND = 2
"""So many times the context, nobody needs to know exactly,"""
COUNTED_ANYWAY = 32 * 1024
"""but who is told by how much takes no time that matters: 40 ms, in parts."""
MOST_TOLD = 131_072
"""Ids that the answer to `tokenize` can carry: ARRAY_ENTRIES of wire/limits.py."""


def within_context(parts: Iterable[list[int]], limit: int) -> Iterator[list[int]]:
    """The parts as they come. Raises: RequestError once there are far more ids than `limit`."""
    most, count = max(FAR_BEYOND * limit, COUNTED_ANYWAY), 0
    for part in parts:
        count += len(part)
        if count > most:
            raise context_exceeded(f"more than {count}", limit)
        yield part


def within_answer(parts: Iterable[list[int]]) -> Iterator[list[int]]:
    """The parts as they come. Raises: RequestError once no message can carry all their ids."""
    count = 0
    for part in parts:
        count += len(part)
        if count > MOST_TOLD:
            raise RequestError(
                f"the text is more than {MOST_TOLD:,} tokens, which is what one message can carry: "
                "send it in parts"
            )
        yield part


def context_exceeded(tokens: int | str, limit: int) -> RequestError:
    return RequestError(
        f"the prompt is {tokens} tokens and the context holds {limit}, of which at "
        "least one must be left for the answer: shorten the prompt, or raise "
        "`context` under [model] if the model allows it",
        code="context_exceeded",
    )
