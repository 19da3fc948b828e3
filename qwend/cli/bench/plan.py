"""The measurements, one after the other.

Rule 1: what is measured, how often and with how many tokens is decided here.
Rule 2: this file does not know how a figure is shown.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from qwend.cli.bench.results import Answering, Reading, Results, percentile
from qwend.cli.bench.trial import Clock, Timed, timed_answer
from qwend.client import AsyncClient

PROMPT_TOKENS: Final = 256
# Enough to start an answer; four of them are read in one step.
OPENING_TOKENS: Final = 16
# As many as the daemon computes at once for one user, unless it is told otherwise
# (running_per_uid under [limits]).
STREAMS: Final = 4
# The middle one of three: a single disturbance does not show. With a model of 0.5 billion
# parameters on two cores one takes 1.3 s. Where one takes 12 s (a Raspberry Pi 4), it is enough.
READINGS: Final = 3
READINGS_S: Final = 5.0

Report = Callable[[str], None]
"""Told what is being done, in a few words."""


class Bench:
    """random: where prompts come from that nobody has asked before."""

    def __init__(self, client: AsyncClient, clock: Clock, random: Random, report: Report) -> None:
        self._client = client
        self._clock = clock
        self._random = random
        self._report = report
        self._requests = 0

    async def run(self, tokens: int) -> Results:
        """Measure. tokens: of each answer, at least 2. Raises: ClientError."""
        before = await self._client.status()
        context = self._client.welcome.context
        count = min(PROMPT_TOKENS, max(context - 1, 1)) if context else PROMPT_TOKENS
        self._report("waking it up")
        await self._ask(await self._prompt(OPENING_TOKENS), 2)
        readings = await self._read(count)
        self._report("one answer")
        one = [await self._ask(await self._prompt(OPENING_TOKENS), tokens)]
        self._report(f"{STREAMS} answers together")
        prompts = [await self._prompt(OPENING_TOKENS) for _ in range(STREAMS)]
        together = await asyncio.gather(*(self._ask(prompt, tokens) for prompt in prompts))
        welcome = self._client.welcome
        cold = _middle([first for first, _ in readings])
        cached = _middle([again for _, again in readings])
        results = Results(
            server=welcome.server,
            model=welcome.model,
            prefill_tok_s=prefill_tok_s(cold),
            cold=reading(cold),
            cached=reading(cached),
            one=answering(one),
            together=answering(together),
        )
        after = await self._client.status()
        return replace(results, notes=tuple(notes(before, after, self._requests, together)))

    async def _read(self, count: int) -> list[tuple[Timed, Timed]]:
        """Return for each prompt how it was read as a new one, and again."""
        end_s = self._clock() + READINGS_S
        readings: list[tuple[Timed, Timed]] = []
        while not readings or (len(readings) < READINGS and self._clock() < end_s):
            self._report(f"reading {count} tokens, round {len(readings) + 1}")
            prompt = await self._prompt(count)
            readings.append((await self._ask(prompt, 1), await self._ask(prompt, 1)))
        return readings

    async def _prompt(self, count: int) -> tuple[int, ...]:
        """Return token ids that are in no cache, because nobody has seen their beginning."""
        words = ("".join(self._random.choices(string.ascii_lowercase, k=7)) for _ in range(count))
        self._requests += 1
        return (await self._client.tokenize(" ".join(words)))[:count]

    async def _ask(self, prompt: Sequence[int], tokens: int) -> Timed:
        self._requests += 1
        return await timed_answer(self._client, prompt, tokens, self._clock)


def reading(timed: Timed) -> Reading:
    usage = timed.done.usage
    return Reading(usage.prompt_tokens, usage.cached_tokens, timed.ttft_s)


def prefill_tok_s(timed: Timed) -> float:
    """Return tokens per second while the prompt was computed, as the daemon measured it."""
    usage, timings = timed.done.usage, timed.done.timings
    took_s = (timings.prefill_s if timings else 0.0) or timed.ttft_s
    return (usage.prompt_tokens - usage.cached_tokens) / took_s if took_s else 0.0


def answering(streams: Sequence[Timed]) -> Answering:
    """Put the streams that ran at the same time together."""
    arrivals_s = sorted(arrival for each in streams for arrival in each.arrivals_s)
    took_s = arrivals_s[-1] - arrivals_s[0] if arrivals_s else 0.0
    gaps_s = [gap for each in streams for gap in each.gaps_s]
    return Answering(
        streams=len(streams),
        tokens=max(len(each.arrivals_s) for each in streams),
        ttft_s=max(each.ttft_s for each in streams),
        # n tokens have n - 1 gaps.
        decode_tok_s=(len(arrivals_s) - 1) / took_s if took_s else 0.0,
        itl_p50_s=percentile(gaps_s, 0.5),
        itl_p95_s=percentile(gaps_s, 0.95),
        itl_max_s=max(gaps_s, default=0.0),
    )


def notes(
    before: Mapping[str, object],
    after: Mapping[str, object],
    own_requests: int,
    together: Sequence[Timed],
) -> list[str]:
    """Return why the daemon may have been slower than it can be. before, after: its status."""
    said = []
    reasons = after.get("degraded")
    if isinstance(reasons, list):
        said += [f"degraded: {reason}" for reason in reasons]
    open_before = _requests(before, "open")
    if open_before:
        said.append(f"the daemon was busy: {_plural(open_before)} of others ran or waited")
    others = _requests(after, "accepted") - _requests(before, "accepted") - own_requests
    if others > 0:
        said.append(f"{_plural(others)} of others came meanwhile")
    if any(each.queued for each in together):
        said.append(
            f"the {len(together)} answers did not all run side by side: running_per_uid under "
            "[limits] is less, or the context has no room for them"
        )
    return said


def _middle(timed: Sequence[Timed]) -> Timed:
    """Return the one of the median time to the first token."""
    return sorted(timed, key=lambda each: each.ttft_s)[len(timed) // 2]


def _requests(status: Mapping[str, object], key: str) -> int:
    requests = status.get("requests")
    value = requests.get(key) if isinstance(requests, dict) else None
    return value if isinstance(value, int) else 0


def _plural(requests: int) -> str:
    return f"{requests:,} request" + ("s" if requests != 1 else "")
