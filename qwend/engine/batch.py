"""One step's work: the rows that go through the model together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One token at one position of one sequence.

    wants_logits: ask the model for the distribution of the next token here. At 151,936 tokens a
    row of logits is 0.6 MB and 3 ms of matrix product, so only rows that are sampled ask for it.
    draft: a guess; it stays in the cells only if the row before it is answered with this token.
    """

    token: int
    position: int
    seq_id: int
    wants_logits: bool
    draft: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    rows: tuple[Row, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sampled_rows(self) -> tuple[int, ...]:
        """Indexes of the rows with wants_logits, in row order."""
        return tuple(index for index, row in enumerate(self.rows) if row.wants_logits)
