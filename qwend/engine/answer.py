"""From sampled tokens to text that may be sent.

Owns the pairing of token ids with their text: a frame to the client carries the ids whose text is
released and nothing of what is still held back for a stop string or half a character.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwend.engine.continuation import Continuation
from qwend.engine.reasoning import Split
from qwend.engine.sequence import Sequence

TokenBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Release:
    """ids: tokens index .. index+len(ids)-1 of the answer; all texts joined are its content, all
    reasonings joined its reasoning."""

    index: int
    ids: tuple[int, ...]
    text: str
    reasoning: str = ""


def replay_answer(sequence: Sequence, done: Continuation, token_bytes: TokenBytes) -> None:
    """Bring a new sequence to where an earlier engine has left it; nothing is released again."""
    sequence.content_sent = done.content_chars
    sequence.reasoning_sent = done.reasoning_chars
    for token in done.tokens:
        extend_answer(sequence, token, token_bytes(token))
    sequence.ids_released = len(done.tokens)


def extend_answer(sequence: Sequence, token: int, data: bytes) -> Release | None:
    """Add a sampled token; return what became certain by it, or None if all is held back."""
    sequence.answer.append(token)
    fed = sequence.detokenizer.feed(data)
    sequence.text_ends.append(sequence.text_length + len(fed))
    sequence.text_length += len(fed)
    split = sequence.reasoning.feed(fed) if sequence.reasoning is not None else Split(content=fed)
    return _release(sequence, split, sequence.stop.feed(split.content), everything=False)


def flush_answer(sequence: Sequence) -> Release | None:
    """The answer ends: release what was held back, up to a stop string that is now certain."""
    rest = sequence.detokenizer.finish()
    sequence.text_length += len(rest)
    split = Split(content=rest)
    if sequence.reasoning is not None:
        split = sequence.reasoning.feed(rest) + sequence.reasoning.finish()
    text = sequence.stop.feed(split.content) + sequence.stop.finish()
    return _release(sequence, split, text, everything=sequence.stop.matched is None)


def _release(sequence: Sequence, split: Split, text: str, *, everything: bool) -> Release | None:
    """text: as much of the content as is no beginning of a stop string."""
    sequence.text_released += len(split.reasoning) + split.dropped + len(text)
    text, reasoning = _not_sent_yet(sequence, text, split.reasoning)
    ends = sequence.text_ends
    first = sequence.ids_released
    last = len(sequence.answer) if everything else first
    # A token without text of its own (half a character) goes out with the text that follows it.
    while not everything and last < len(ends) and ends[last] <= sequence.text_released:
        last += 1
    if not (text or reasoning) and not (everything and last > first):
        return None
    sequence.ids_released = last
    return Release(first, tuple(sequence.answer[first:last]), text, reasoning)


def _not_sent_yet(sequence: Sequence, content: str, reasoning: str) -> tuple[str, str]:
    """Without what an earlier engine has sent."""
    known, thought = sequence.content_sent, sequence.reasoning_sent
    sequence.content_sent -= min(known, len(content))
    sequence.reasoning_sent -= min(thought, len(reasoning))
    return content[known:], reasoning[thought:]
