"""From sampled tokens to text that may be sent.

Owns the pairing of token ids with their text: a frame to the client carries the ids whose text is
released and nothing of what is still held back for a stop string or half a character.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Release:
    """ids: tokens index .. index+len(ids)-1 of the answer; all texts joined are the answer."""

    index: int
    ids: tuple[int, ...]
    text: str


def extend_answer(sequence: Sequence, token: int, data: bytes) -> Release | None:
    """Add a sampled token; return what became certain by it, or None if all is held back."""
    sequence.answer.append(token)
    fed = sequence.detokenizer.feed(data)
    sequence.text_ends.append(sequence.text_length + len(fed))
    sequence.text_length += len(fed)
    return _release(sequence, sequence.stop.feed(fed), everything=False)


def flush_answer(sequence: Sequence) -> Release | None:
    """The answer ends: release what was held back, up to a stop string that is now certain."""
    rest = sequence.detokenizer.finish()
    sequence.text_length += len(rest)
    text = sequence.stop.feed(rest) + sequence.stop.finish()
    return _release(sequence, text, everything=sequence.stop.matched is None)


def _release(sequence: Sequence, text: str, *, everything: bool) -> Release | None:
    sequence.text_released += len(text)
    ends = sequence.text_ends
    first = sequence.ids_released
    last = len(sequence.answer) if everything else first
    # A token without text of its own (half a character) goes out with the text that follows it.
    while not everything and last < len(ends) and ends[last] <= sequence.text_released:
        last += 1
    if not text and not (everything and last > first):
        return None
    sequence.ids_released = last
    return Release(first, tuple(sequence.answer[first:last]), text)
