"""The energy ledger: joules of the machine, shared out over the tokens that were made meanwhile.

Owns who is charged what. Nothing counts the joules of one program, let alone of one request: what
the whole package took while a request ran is divided by all tokens of all requests in that time,
and each is charged for its own. What idles and what else runs on the machine is in it.
"""

from __future__ import annotations

from collections.abc import Callable

# The figure in `status` is that of about so many tokens of late: a few answers, without the noise
# of one.
LATE_TOKENS = 1_000


class EnergyLedger:
    """joules: the machine's, counted since any moment; None where nothing counts them."""

    def __init__(self, joules: Callable[[], float | None]) -> None:
        self._joules = joules
        self._tokens = 0
        self._running: dict[int, tuple[float, int]] = {}
        self._late_joules = 0.0
        self._late_tokens = 0.0

    @property
    def joules_per_token(self) -> float | None:
        """Of late; None before the first answer."""
        return self._late_joules / self._late_tokens if self._late_tokens else None

    def started(self, request_id: int) -> None:
        joules = self._joules()
        if joules is not None:
            # One that went back to the queue and starts again goes on with its first account.
            self._running.setdefault(request_id, (joules, self._tokens))

    def produced(self, tokens: int) -> None:
        """Any request has made so many."""
        self._tokens += tokens

    def forget(self, request_id: int) -> None:
        """The request is over, and nobody is told what it took; twice is harmless."""
        self._running.pop(request_id, None)

    def ended(self, request_id: int, tokens: int) -> float | None:
        """Joules of a request that made so many tokens; None if they are not known, or it made
        none: what is only read has no tokens to go by."""
        begin, joules = self._running.pop(request_id, None), self._joules()
        if begin is None or joules is None:
            return None
        joules_before, tokens_before = begin
        all_tokens = self._tokens - tokens_before
        if tokens <= 0 or all_tokens <= 0:
            return None
        own = (joules - joules_before) * min(tokens / all_tokens, 1.0)
        self._late_joules += own
        self._late_tokens += tokens
        if self._late_tokens > LATE_TOKENS:
            self._late_joules *= LATE_TOKENS / self._late_tokens
            self._late_tokens = LATE_TOKENS
        return own
