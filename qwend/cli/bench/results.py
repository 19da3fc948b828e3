"""What was measured, as values: for a script one map, for a person a table.

Rule 1: every figure of the output, its unit and its digits are decided here.
Rule 2: this file does not know how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

_HEADER = ("", "first token", "tokens/s", "gap p50", "gap p95", "longest")


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt of `prompt_tokens`, of which `cached_tokens` were there already."""

    prompt_tokens: int
    cached_tokens: int
    ttft_s: float
    """From sending the request to receiving its first token."""


@dataclass(frozen=True, slots=True)
class Answering:
    """`streams` answers at once of `tokens` each. ttft_s: of the slowest. decode_tok_s: of all.

    itl_*_s: gaps between two tokens of a stream as they were received, of all streams together.
    """

    streams: int
    tokens: int
    ttft_s: float
    decode_tok_s: float
    itl_p50_s: float
    itl_p95_s: float
    itl_max_s: float


@dataclass(frozen=True, slots=True)
class Results:
    """cold, cached: the same prompt, new and again. prefill_tok_s: while the new one was read.

    notes: what a reader must know before comparing these figures with others.
    """

    server: str
    model: str
    prefill_tok_s: float
    cold: Reading
    cached: Reading
    one: Answering
    together: Answering
    notes: tuple[str, ...] = ()

    def to_map(self) -> dict[str, object]:
        """The object of --json: seconds in full, rates per second."""
        return {**asdict(self), "notes": list(self.notes)}

    def table(self) -> str:
        """Return the table, a line for each measurement, below 80 columns."""
        return "\n".join(_lines([_HEADER, *self._rows()]))

    def _rows(self) -> Iterator[Sequence[str]]:
        rate = _rate(self.prefill_tok_s)
        yield f"{self.cold.prompt_tokens} new tokens read", _ms(self.cold.ttft_s), rate, "", "", ""
        yield "the same again", _ms(self.cached.ttft_s), "", "", "", ""
        for each in (self.one, self.together):
            yield (
                "one answer" if each.streams == 1 else f"{each.streams} answers together",
                _ms(each.ttft_s),
                _rate(each.decode_tok_s),
                *map(_ms, (each.itl_p50_s, each.itl_p95_s, each.itl_max_s)),
            )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all are not above; 0 of none (nearest rank)."""
    if not values:
        return 0.0
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "   ".join(cells).rstrip()


def _ms(seconds: float) -> str:
    ms = seconds * 1e3
    return f"{ms:,.{0 if ms >= 100 else 1}f} ms"


def _rate(per_second: float) -> str:
    return f"{per_second:,.{0 if per_second >= 100 else 1}f}"
