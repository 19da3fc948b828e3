"""One request, timed by its client: when the first token came, and how far apart the others were.

Rule 1: every figure is taken where a program would take it, behind the socket.
Rule 2: this file does not know what is compared with what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qwend.client import AsyncClient, Done, Progress, Token

Clock = Callable[[], float]
"""Seconds, monotonic."""


@dataclass(frozen=True, slots=True)
class Timed:
    """sent_s, arrivals_s: on the clock, one arrival for each token. queued: it had to wait."""

    sent_s: float
    arrivals_s: tuple[float, ...]
    queued: bool
    done: Done

    @property
    def ttft_s(self) -> float:
        return self.arrivals_s[0] - self.sent_s if self.arrivals_s else 0.0

    @property
    def gaps_s(self) -> list[float]:
        """Between one token and the next; 0 within one message."""
        return [
            later - earlier
            for earlier, later in zip(self.arrivals_s, self.arrivals_s[1:], strict=False)
        ]


async def timed_answer(
    client: AsyncClient, prompt: Sequence[int], tokens: int, clock: Clock
) -> Timed:
    """Have `tokens` tokens generated behind `prompt`, whatever the model says.

    Raises: ClientError.
    """
    sent_s = clock()
    arrivals_s: list[float] = []
    queued = False
    # The seed keeps two runs comparable; the rest is as the daemon is configured, as in real use.
    stream = await client.complete(prompt, max_tokens=tokens, ignore_eos=True, seed=1)
    async for event in stream.events():
        if isinstance(event, Token):
            arrivals_s += [clock()] * len(event.ids)
        elif isinstance(event, Progress):
            queued |= event.stage == "queued"
    return Timed(sent_s, tuple(arrivals_s), queued, await stream.wait())
