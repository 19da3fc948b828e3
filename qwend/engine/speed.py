"""Running speeds for `status`. Prefill and decode are never averaged together."""

from __future__ import annotations

# Each step moves the shown figure by a twentieth: steady to look at, and a change of the
# machine's speed shows within a second or two of decoding.
WEIGHT = 0.05


class SpeedMeter:
    """Tokens per second; 0.0 until there was a step of that kind."""

    __slots__ = ("decode_tok_s", "prefill_tok_s")

    def __init__(self) -> None:
        self.decode_tok_s = 0.0
        self.prefill_tok_s = 0.0

    def step(self, rows: int, sampled: int, seconds: float) -> None:
        """Count a step that was all decode or all prefill; mixed steps say nothing about either.

        rows: without those of drafts that were wrong, which brought no token. sampled: of these.
        """
        if seconds <= 0.0:
            return
        rate = rows / seconds
        if rows == sampled:
            self.decode_tok_s = _moved(self.decode_tok_s, rate)
        elif sampled <= 1:
            self.prefill_tok_s = _moved(self.prefill_tok_s, rate)


def _moved(shown: float, newest: float) -> float:
    return newest if shown == 0.0 else shown + WEIGHT * (newest - shown)
