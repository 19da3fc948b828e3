"""Which prompts get how many rows of a step: interactive first, the short soon, the long always."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from qwend.engine.sequence import Sequence
from qwend.engine.waiting import prefills_later


def prefill_shares(
    running: SequenceOf[Sequence], rows: int, now: float
) -> list[tuple[Sequence, int]]:
    """Divide `rows` among those whose prompts can go on, oldest first in the result.

    Interactive prompts go before background ones. Within a class half goes to the shortest
    remaining prompt and the rest by age: short ones start soon, and long ones always move.
    """
    ready = [one for one in running if one.ready_prefill]
    shares: dict[int, int] = {}
    urgent = _urgent(running, now)
    for first in (True, False):
        among = [one for one in ready if (one in urgent) is first]
        rows -= _share(among, rows, shares)
    return [(one, shares[one.seq_id]) for one in ready if shares.get(one.seq_id)]


def _urgent(running: SequenceOf[Sequence], now: float) -> set[Sequence]:
    """Interactive ones, and background ones that compute what an interactive one waits for."""
    urgent = {one for one in running if not prefills_later(one, now)}
    for one in list(urgent):
        waits: Sequence | None = one
        while waits is not None and waits.joins:
            waits = waits.source
            if waits is not None:
                urgent.add(waits)
    return urgent


def _share(among: list[Sequence], rows: int, shares: dict[int, int]) -> int:
    if not among or rows <= 0:
        return 0
    shortest = min(among, key=lambda one: one.ready_prefill)
    half = rows if len(among) == 1 else max(1, rows // 2)
    shares[shortest.seq_id] = min(half, shortest.ready_prefill)
    left = rows - shares[shortest.seq_id]
    for sequence in among:
        given = shares.get(sequence.seq_id, 0)
        more = min(left, sequence.ready_prefill - given)
        shares[sequence.seq_id] = given + more
        left -= more
    return rows - left
