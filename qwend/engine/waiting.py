"""The queue: who waits for a sequence id and cells, in the order in which they will get them.

Interactive requests go before background ones; within a class nobody overtakes, so a large request
at the head is never starved by small ones. A background request that has waited long enough counts
as interactive: it must not wait for ever beside a busy chat.
"""

from __future__ import annotations

from collections.abc import Iterator

from qwend.engine.request import Priority
from qwend.engine.sequence import Sequence, State

# What a person who chats notices least: a background request may be put off for as long as one
# ordinary answer of 0.5B on two cores takes (300 tokens at 30 a second).
BACKGROUND_PATIENCE_S = 10.0


class WaitingQueue:
    """Sequences without seq_id and cells."""

    def __init__(self) -> None:
        self._waiting: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._waiting)

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        self._waiting.remove(sequence)

    def head(self, now: float) -> Sequence | None:
        """Who is next, at this moment; the others follow in the order of their turns."""
        self._sort(now)
        return self._waiting[0] if self._waiting else None

    def _sort(self, now: float) -> None:
        self._waiting.sort(key=lambda one: (is_background(one, now), one.times.received, one.id))


def is_background(sequence: Sequence, now: float) -> bool:
    """True if it gives way to interactive requests now, in the queue or out of its cells."""
    if sequence.request.priority is not Priority.BACKGROUND or sequence.promoted:
        return False
    if sequence.state is not State.WAITING:
        return True
    return now - sequence.waiting_since < BACKGROUND_PATIENCE_S


def prefills_later(sequence: Sequence, now: float) -> bool:
    """True if interactive prompts are computed before its own; not for ever, once it has begun."""
    return is_background(sequence, now) and now - sequence.admitted < BACKGROUND_PATIENCE_S
