"""Every request of the run with its end, what happened meanwhile, and what should not have.

Owns the figures that the report is made of. Knows nothing of connections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .stream_check import StreamCheck
from .survival import LOST, Happened, why_allowed

# What a client cannot know: a fault is felt a little later than it was made.
FELT_S = 1.0
OWN_DOING = frozenset({Happened.CANCELLED, Happened.ABANDONED, Happened.SLOW})


@dataclass(slots=True)
class Asked:
    """One request. own: what its client does to it. cancel_at: after so many tokens.

    key: what is asked, in one word. last_words: why its connection ended, as the library says.
    """

    op: str
    client: str
    check: StreamCheck
    at_s: float
    own: set[Happened] = field(default_factory=set)
    key: str = ""
    cancel_at: int | None = None
    last_words: str = ""
    heard_s: float = 0.0
    silence_s: float = 0.0
    """The longest time in which nothing came."""

    def heard(self, now: float) -> None:
        self.silence_s = max(self.silence_s, now - max(self.heard_s, self.at_s))
        self.heard_s = now


@dataclass(slots=True)
class Episode:
    """Something that was done to the daemon, and how long it was felt."""

    what: Happened
    begin_s: float
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """kind: `wrong`, `broken`, `lost turn`, `hang`, `left over`, `unexpected`."""

    at_s: float
    kind: str
    text: str


class Ledger:
    """clock: seconds since the load began."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.capabilities: tuple[str, ...] = ()
        """What the daemon can do, as it says itself."""
        self.tokens = 0
        self.endings: Counter[tuple[str, str]] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.recoveries = 0
        self.cancels = 0
        self.findings: list[Finding] = []
        self.episodes: list[Episode] = []
        self.longest_silence_s = 0.0
        self.heard_s = 0.0
        """When anybody was last told anything of a request."""
        self.pings_s: list[float] = []
        self.pings_lost = 0
        self._refused: set[str] = set()
        self.good = 0
        self.bad = 0

    @contextmanager
    def episode(self, what: Happened) -> Iterator[Episode]:
        one = Episode(what, self.clock())
        self.episodes.append(one)
        try:
            yield one
        finally:
            one.end_s = self.clock() + FELT_S

    def happened(self, begin_s: float, end_s: float) -> set[Happened]:
        """What was done to the daemon in this time, or shortly before."""
        seen = [
            one.what
            for one in self.episodes
            if one.begin_s <= end_s and (one.end_s is None or one.end_s >= begin_s)
        ]
        found = set(seen)
        if seen.count(Happened.ENGINE_KILLED) + seen.count(Happened.FRONT_KILLED) > 1:
            found.add(Happened.ENGINE_KILLED_TWICE)
        return found

    def ended(self, asked: Asked, how: str = "") -> None:
        """A request is over. how: if not by a message of its own: `lost`, `open`."""
        how = how or asked.check.how
        now = self.clock()
        self.endings[asked.op, how] += 1
        self.recoveries += asked.check.recoveries > 0
        self.cancels += Happened.CANCELLED in asked.own
        for fault in asked.check.faults:
            self.find("wrong", f"{asked.client}, {asked.op}: {fault}")
        seen = self.happened(asked.at_s, now) | asked.own
        if asked.key in self._refused:
            seen.add(Happened.REFUSED_BEFORE)
        why = why_allowed(asked.op, how, seen)
        if why is None:
            told = asked.last_words
            if asked.check.end is not None:
                told = asked.check.end.get("message", "")
            self.find(
                "broken",
                f"{asked.client}, {asked.op} asked at {asked.at_s:.2f} s, {len(asked.check.ids)} "
                f"tokens: {how} {told}; meanwhile: {', '.join(sorted(seen)) or 'nothing'}",
            )
        else:
            self.reasons[how, why] += 1
            if how == "error:poison_request":
                self._refused.add(asked.key)
        if not seen & OWN_DOING:
            self.longest_silence_s = max(self.longest_silence_s, asked.silence_s)
            if how.startswith("done"):
                self.good += 1
            elif how not in ("error:busy", "error:poison_request"):
                self.bad += 1

    def lost(self, asked: Asked) -> None:
        self.ended(asked, LOST)

    def find(self, kind: str, text: str) -> None:
        self.findings.append(Finding(self.clock(), kind, text))

    def count(self, kind: str) -> int:
        return sum(one.kind == kind for one in self.findings)
