"""What one request cost: tokens counted, seconds and joules measured.

Rule 1: the two maps inside `done` live here.
Rule 2: this file does not know how anything was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from qwend.wire import limits
from qwend.wire.fields import Fields


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    cached_tokens: int
    """How many of the prompt's tokens did not have to be computed."""
    completion_tokens: int
    energy_j: float | None = None
    """The request's share of what the machine took while it ran; None: not measured."""

    def to_map(self) -> dict[str, float]:
        fields: dict[str, float] = {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
        }
        if self.energy_j is not None:
            fields["energy_j"] = self.energy_j
        return fields

    @classmethod
    def read(cls, source: Fields) -> Usage:
        usage = cls(
            source.integer("prompt_tokens", 0, limits.COUNT_MAX),
            source.integer("cached_tokens", 0, limits.COUNT_MAX),
            source.integer("completion_tokens", 0, limits.COUNT_MAX),
            source.number("energy_j", 0.0, math.inf) if source.has("energy_j") else None,
        )
        source.refuse_others()
        return usage


@dataclass(frozen=True, slots=True)
class Timings:
    """0.0 where nothing was measured: no gap between tokens in an answer of one token."""

    queue_s: float = 0.0
    prefill_s: float = 0.0
    ttft_s: float = 0.0
    """From the request's receipt to its first token's place in the outbox."""
    decode_s: float = 0.0
    itl_p50_s: float = 0.0
    """The median gap between two tokens."""
    itl_max_s: float = 0.0

    def to_map(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _TIMINGS}

    @classmethod
    def read(cls, source: Fields) -> Timings:
        timings = cls(*(source.number(name, 0.0, math.inf) for name in _TIMINGS))
        source.refuse_others()
        return timings


_TIMINGS = tuple(field.name for field in fields(Timings))
