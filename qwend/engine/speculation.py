"""How many draft tokens each decoding sequence is given in a step, if any pay at all."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf

from qwend.engine.drafting import MOST_DRAFTS
from qwend.engine.sequence import Sequence
from qwend.engine.step_cost import StepCost

# Expected gain below this is within what the table errs by.
WORTH_IT = 1.05


def draft_counts(
    decoding: SequenceOf[Sequence], cost: StepCost, spare: int, used_cells: int
) -> list[tuple[int, ...]]:
    """Draft tokens for each of `decoding`, in order; empty where they do not pay.

    spare: rows with logits that the step has beyond one for each running sequence.
    """
    rows = len(decoding)
    given: list[tuple[int, ...]] = []
    for sequence in decoding:
        drafts = _drafts(sequence, cost, spare, rows, used_cells)
        given.append(drafts)
        rows += len(drafts)
        spare -= len(drafts)
    return given


def _drafts(
    sequence: Sequence, cost: StepCost, spare: int, rows: int, used_cells: int
) -> tuple[int, ...]:
    drafter = sequence.drafter
    # A draft must never need a cell, a token or a credit that the sequence does not have.
    most = min(MOST_DRAFTS, spare, sequence.reserved_cells - sequence.known, sequence.credit - 1)
    if drafter is None or most <= 0 or not drafter.acceptance:
        return ()
    tokens = drafter.draft(most)
    best, best_gain = 0, WORTH_IT
    for count in range(1, len(tokens) + 1):
        gain = cost.speculation_gain(
            count, drafter.acceptance, rows=rows, sampled=rows, used_cells=used_cells
        )
        if gain > best_gain:
            best, best_gain = count, gain
    return tokens[:best]
