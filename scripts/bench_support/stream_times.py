"""One answer as its reader sees it: when each delivery arrived."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qwend.client import Client

# Ordinary words of Qwen's vocabulary: no control tokens, none of the first single bytes.
FIRST_TOKEN, LAST_TOKEN = 1000, 100_000


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """`arrivals`: (tokens so far, when) of each message with tokens. CLOCK_MONOTONIC, seconds."""

    sent_s: float
    arrivals: tuple[tuple[int, float], ...]

    @property
    def tokens_per_s(self) -> float:
        """Decode speed: the first delivery, which ends the prefill, only starts the clock."""
        (first, begin), (last, end) = self.arrivals[0], self.arrivals[-1]
        return (last - first) / (end - begin)

    @property
    def ttft_s(self) -> float:
        return self.arrivals[0][1] - self.sent_s


def prompt_tokens(count: int, source: random.Random) -> list[int]:
    """A prompt that no cache has seen: the same ones for every run with the same seed."""
    return [source.randrange(FIRST_TOKEN, LAST_TOKEN) for _ in range(count)]


def timed_stream(client: Client, prompt: Sequence[int], tokens: int) -> StreamTimes:
    """Decode exactly `tokens` tokens, sampled as a chat would be."""
    arrivals = []
    sent_s = time.monotonic()
    stream = client.complete(
        prompt,
        max_tokens=tokens,
        ignore_eos=True,
        seed=1,
        temperature=0.7,
        top_k=40,
        top_p=0.95,
    )
    for token in stream:
        if not token.ids:  # only text that had been held back
            continue
        arrivals.append((token.index + len(token.ids), time.monotonic()))
    return StreamTimes(sent_s, tuple(arrivals))


def delivery_s(
    production: Iterable[tuple[int, int, float]], streams: Sequence[StreamTimes]
) -> list[float]:
    """Seconds from "the engine has sampled it" to "the client has it", for each message.

    production: (request id, tokens so far, when made), of these streams and no others, each
    stream begun after the one before it.
    """
    made: dict[int, dict[int, float]] = {}
    for request_id, count, at_s in production:
        made.setdefault(request_id, {})[count] = at_s
    if len(made) != len(streams):
        raise ValueError(f"{len(streams)} streams were read and {len(made)} were made")
    return [
        at_s - times[count]
        for times, stream in zip(made.values(), streams, strict=True)
        for count, at_s in stream.arrivals
    ]
