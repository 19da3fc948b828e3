"""Who shares cells with whom: a tree over the running sequences, for the reservation of cells.

`seq_cp` only tags cells, so a shared prefix is there once. Each sequence names one source and how
many leading cells it has in common with it, now or as soon as the source has computed them. Cells
in use are then the sum over all sequences of what they need less what they share.

When a source leaves, the sequence that shared most with it becomes the source of the others: they
have that much in common among themselves. Counted this way the sum never grows, so a sequence that
was admitted never lacks room later.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as SequenceOf

from qwend.engine.sequence import Sequence


def reserved_cells(running: Iterable[Sequence]) -> int:
    """Cells that the running sequences may come to need together."""
    return sum(one.reserved_cells - one.shared for one in running)


def used_cells(running: Iterable[Sequence]) -> int:
    """Cells in use."""
    return sum(one.computed - min(one.shared, one.computed) for one in running)


def followers(source: Sequence, running: Iterable[Sequence]) -> list[Sequence]:
    return [one for one in running if one.source is source]


def reserved_without(leaving: SequenceOf[Sequence], running: Iterable[Sequence]) -> int:
    """The most that is reserved once all of `leaving` have left, in whatever order."""
    reserved = 0
    for one in running:
        if one in leaving:
            continue
        source, shared = one.source, one.shared
        while source is not None and source in leaving:
            shared = min(shared, source.shared)
            source = source.source
        reserved += one.reserved_cells - (0 if source is None else shared)
    return reserved


def bequeath(leaving: Sequence, running: Iterable[Sequence]) -> Sequence | None:
    """Give the followers of a sequence that leaves another source; return the heir, if any.

    The heir may still wait for cells that the leaving one has: it is to be given them now.
    """
    left = followers(leaving, running)
    heir = max(left, key=lambda one: one.shared, default=None)
    for one in left:
        if one is not heir:
            one.source = heir
    if heir is not None:
        heir.source = leaving.source
        heir.shared = min(heir.shared, leaving.shared) if leaving.source is not None else 0
    leaving.source, leaving.shared = None, 0
    return heir
