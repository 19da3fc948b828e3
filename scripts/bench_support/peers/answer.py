"""What came back for one request: when, and how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..stream_times import StreamTimes


@dataclass(frozen=True, slots=True)
class Answer:
    times: StreamTimes

    @property
    def ttft_ms(self) -> float:
        return self.times.ttft_s * 1e3

    @property
    def first_at_s(self) -> float:
        """When the first token arrived, CLOCK_MONOTONIC."""
        return self.times.arrivals[0][1]

    @property
    def tokens(self) -> int:
        return self.times.arrivals[-1][0]

    @property
    def tokens_per_s(self) -> float:
        """Decode speed; the delivery that ends the prefill only starts the clock."""
        return self.times.tokens_per_s if len(self.times.arrivals) > 1 else 0.0

    @property
    def gaps_ms(self) -> list[float]:
        """Between a delivery and the next."""
        at = [when for _, when in self.times.arrivals]
        return [(after - before) * 1e3 for before, after in pairwise(at)]


def tokens_per_s_together(answers: Sequence[Answer]) -> float:
    """All tokens, from the moment the first was sent to the last arrival."""
    begin = min(answer.times.sent_s for answer in answers)
    end = max(answer.times.arrivals[-1][1] for answer in answers)
    return sum(answer.tokens for answer in answers) / (end - begin)
