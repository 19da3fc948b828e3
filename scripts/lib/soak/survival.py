"""What may break, and why: the whole of it. An ending that is in no row is a finding.

Owns the table. A row names the ending, whom it may hit, and what must have happened meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Happened(StrEnum):
    """What happened between a request and its end: to the daemon, or by its client's own doing."""

    ENGINE_KILLED = "engine killed"
    ENGINE_KILLED_TWICE = "engine killed twice"
    ENGINE_STOPPED = "engine stopped"
    FRONT_KILLED = "front killed"
    FRONT_STOPPED = "front stopped"
    DISK_FULL = "disk full"
    CANCELLED = "cancelled by its client"
    ABANDONED = "left by its client"
    REFUSED_BEFORE = "the same was refused before"
    SLOW = "not read by its client"
    LIBRARY = "asked through the library"
    IN_SESSION = "a turn of a session"


@dataclass(frozen=True, slots=True)
class Row:
    """how: the endings; needs: all of these must have happened; not_with: none of these may."""

    how: tuple[str, ...]
    why: str
    needs: frozenset[Happened] = frozenset()
    not_with: frozenset[Happened] = frozenset()
    ops: tuple[str, ...] = ()

    def covers(self, op: str, how: str, happened: Iterable[Happened]) -> bool:
        seen = frozenset(happened)
        return (
            how in self.how
            and (not self.ops or op in self.ops)
            and self.needs <= seen
            and not self.not_with & seen
        )


def _row(
    how: str, why: str, *needs: Happened, ops: str = "", not_with: Happened | None = None
) -> Row:
    never = frozenset((not_with,) if not_with else ())
    return Row(tuple(how.split()), why, frozenset(needs), never, tuple(ops.split()))


LOST = "lost"
"""The connection ended before the request did."""

TABLE = (
    _row("done:stop done:length", "as it should be", ops="chat complete"),
    _row("done:prefilled", "as it should be", ops="prefill"),
    _row("done:tokenized", "as it should be", ops="tokenize"),
    _row("done:cancelled", "as it should be", Happened.CANCELLED),
    _row("open lost done:cancelled", "its client went", Happened.ABANDONED),
    _row("error:busy", "the limits of one user hold for everybody"),
    _row("error:slow_consumer lost", "a client that does not read is cut off", Happened.SLOW),
    _row(
        LOST,
        "a message was under way at the kill: what is in doubt is closed, not guessed about",
        Happened.FRONT_KILLED,
        not_with=Happened.LIBRARY,
    ),
    _row(
        "error:poison_request",
        "two engines died one after the other with it in their batch",
        Happened.ENGINE_KILLED_TWICE,
    ),
    _row(
        "error:no_space",
        "a turn that cannot be kept is not acknowledged",
        Happened.DISK_FULL,
        Happened.IN_SESSION,
    ),
    _row(
        "error:poison_request",
        "the same request was refused before, and is for ten minutes",
        Happened.REFUSED_BEFORE,
    ),
)


def why_allowed(op: str, how: str, happened: Iterable[Happened]) -> str | None:
    """The row that covers this ending; None: it should not have happened."""
    seen = frozenset(happened)
    for row in TABLE:
        if row.covers(op, how, seen):
            return row.why
    return None
