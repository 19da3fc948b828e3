"""How much of the log one cause may fill: what is too much is counted, and the count is told.

Owns the counts of one minute. Knows nothing of handlers: lines are offered, and answered.

A message about a client begins with `uid %d`, by which it is known whose it is. What a client can
cause is limited for each uid, so that one cannot hide what is said of another; everything else by
the place it comes from, for a fault that repeats itself; and all of it together, for uids are
cheap where there are user namespaces (subuid(5) gives one user 65,536).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_S = 60.0
# Of one uid and kind: enough to see what goes wrong, and that it was no single time.
LINES_OF_A_UID = 5
# Of any other kind: one a second.
LINES_OF_A_KIND = 60
# Of all together: half of the MiB in a minute that a daemon may write when it is attacked; the
# rest is for the counts below, and for the engine.
CHARACTERS_OF_ALL = 512 * 1024
# Kinds that are told apart, and so counts that are told: 300 bytes each.
KINDS = 512
# What is quoted of a message in a count; more adds nothing.
QUOTED = 200

Key = tuple[int | None, str]
_OTHERS: Key = (None, "")


@dataclass(slots=True)
class _Count:
    admitted: int = 0
    more: int = 0
    last: str = ""


@dataclass(slots=True)
class LogLimit:
    """clock: monotonic, in seconds."""

    clock: Callable[[], float]
    _counts: dict[Key, _Count] = field(default_factory=dict)
    _begin: float = 0.0
    _characters: int = 0

    def admits(self, record: logging.LogRecord, size: int) -> bool:
        """Whether so many characters are to be written for it. Call `ended` before, or a minute
        never ends."""
        if not self._counts:
            self._begin = self.clock()
        key = key_of(record)
        if key not in self._counts and len(self._counts) >= KINDS:
            key = _OTHERS
        count = self._counts.setdefault(key, _Count())
        most = LINES_OF_A_KIND if key[0] is None else LINES_OF_A_UID
        if count.admitted < most and self._characters + size <= CHARACTERS_OF_ALL:
            count.admitted += 1
            self._characters += size
            return True
        count.more += 1
        count.last = record.getMessage().partition("\n")[0]
        return False

    def ended(self) -> list[str]:
        """What to say of the minute that is over; nothing while it is not."""
        return self.close() if self.clock() - self._begin >= WINDOW_S else []

    def close(self) -> list[str]:
        """What to say of the minute up to now, at the end of all."""
        told = [_sentence(key, count) for key, count in self._counts.items() if count.more]
        self._counts.clear()
        self._characters = 0
        return told

    @property
    def remaining_s(self) -> float:
        """Until the minute is over."""
        return max(0.0, self._begin + WINDOW_S - self.clock())


def key_of(record: logging.LogRecord) -> Key:
    """Whose fault the message is and what it is about: its text before values are put into it."""
    template = str(record.msg)
    arguments = record.args if isinstance(record.args, tuple) else ()
    if template.startswith("uid %d") and arguments and isinstance(arguments[0], int):
        return arguments[0], template
    # Some libraries format before they log: what is equal then is the place.
    return None, f"{record.name}:{record.lineno}"


def _sentence(key: Key, count: _Count) -> str:
    quoted = count.last if len(count.last) <= QUOTED else f"{count.last[:QUOTED]} ..."
    who = "" if key[0] is None else f"uid {key[0]}: "
    those = "other messages" if key == _OTHERS else "messages like this"
    return f"{who}{count.more} more {those} in the last minute: {quoted}"
