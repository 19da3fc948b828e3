"""Blame: which request it was that the engine died of.

A request that was at the engine in two successive deaths, and had not got on in between, is
suspected. A suspect that was alone is the culprit, and is refused for a while. Several take turns
at the next engine, beside those that are not suspected: the next death then tells which it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from qwend.daemon.journal import Entry
from qwend.engine.request import EngineRequest

# Tokens after which what killed the last engine is behind the request: the same prompt kills at the
# same token, give or take the drafts of one step (MOST_DRAFTS).
GETS_ON_TOKENS = 8
# How long the culprit's like is refused: the daemon's life would otherwise be one loop of deaths,
# and a new version of the model or the program may well answer it.
QUARANTINE_S = 600.0


class Blame:
    """clock: CLOCK_MONOTONIC in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._suspects: list[Entry] = []
        self._refused_until: dict[bytes, float] = {}

    def died(self, at_work: Sequence[Entry]) -> Entry | None:
        """The engine died over these. Return the one that it was, if that is certain."""
        for entry in at_work:
            entry.deaths = 1 if _has_got_on(entry) else entry.deaths + 1
            entry.tokens_at_death = entry.produced
        suspects = [entry for entry in at_work if entry.deaths > 1]
        spared = [entry for entry in self._suspects if entry not in at_work]
        if len(suspects) != 1:
            self._suspects = suspects + spared
            return None
        (culprit,) = suspects
        self._suspects = spared
        self._refused_until[_digest(culprit.request)] = self._clock() + QUARANTINE_S
        return culprit

    def holds(self, entry: Entry) -> bool:
        """It is another suspect's turn at the engine."""
        return entry in self._suspects[1:]

    def whose_turn(self) -> Entry | None:
        """The suspect that may go to the engine now."""
        return self._suspects[0] if self._suspects else None

    def next_turn(self, entry: Entry, *, over: bool) -> Entry | None:
        """It got on, or does no more for now. Return the suspect whose turn comes by that."""
        if entry not in self._suspects or not (over or _has_got_on(entry)):
            return None
        first = entry is self._suspects[0]
        self._suspects.remove(entry)
        return self.whose_turn() if first else None

    def refuses(self, request: EngineRequest) -> bool:
        """An engine has died of the same request of late."""
        if not self._refused_until:
            return False
        now = self._clock()
        self._refused_until = {
            digest: until for digest, until in self._refused_until.items() if until > now
        }
        return _digest(request) in self._refused_until


def _has_got_on(entry: Entry) -> bool:
    """Since it was last at work in a death."""
    return not entry.deaths or entry.produced - entry.tokens_at_death >= GETS_ON_TOKENS


def _digest(request: EngineRequest) -> bytes:
    """Of what is asked, and not of who asks or when: the model dies of it all the same."""
    sampling = replace(request.sampling, seed=0)
    plain = replace(request, id=0, uid=0, received_s=0.0, credit=0, sampling=sampling)
    return hashlib.sha256(repr(plain).encode()).digest()
