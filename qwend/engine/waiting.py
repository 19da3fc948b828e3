"""The queue: who waits for a sequence id and cells, in the order in which they will get them.

Interactive requests go before background ones; within a class those of the user who has fewest
running, for who asked for much first must not keep others from their first; and then who came
first, so that a large request at the head is never starved by small ones. One that has waited long
enough counts as interactive, and as if its user had nothing running: none waits for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf

from qwend.engine.request import Priority
from qwend.engine.sequence import Sequence, State

# What a person who chats notices least: a background request may be put off for as long as one
# ordinary answer of 0.5B on two cores takes (300 tokens at 30 a second).
BACKGROUND_PATIENCE_S = 10.0


class WaitingQueue:
    """Sequences without seq_id and cells. running: those that have both, as they come and go."""

    def __init__(self, running: SequenceOf[Sequence] = ()) -> None:
        self._waiting: list[Sequence] = []
        self._running = running

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
        running = Counter(one.request.uid for one in self._running)

        def turn(one: Sequence) -> tuple[bool, int, float, int]:
            patient = now - one.waiting_since < BACKGROUND_PATIENCE_S
            count = running[one.request.uid] if patient else 0
            return is_background(one, now), count, one.times.received, one.id

        self._waiting.sort(key=turn)


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
