"""Stop strings, over token edges.

Text that could still become a stop string is held back until it is certain: no character of a
matched stop string is ever released. Of several stops the one that begins earliest wins; of two
that begin at the same place, the one that is complete first.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Feed text as it comes; read what may be released.

    Invariant: released text + `held` == all text fed so far, while not `matched`.
    """

    __slots__ = ("_stops", "held", "matched")

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self.held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Return the text that can no longer be part of a stop string."""
        if self.matched is not None:
            return ""
        self.held += text
        if not self._stops:
            return self._release(len(self.held))
        found = self._earliest_match()
        pending = self._longest_beginning()
        # A stop that begins before the one found may still be completing: wait for it.
        if found is not None and found[0] <= len(self.held) - pending:
            return self._cut(found)
        return self._release(len(self.held) - pending) if found is None else ""

    def finish(self) -> str:
        """The stream is over and nothing more can complete: cut, or release what is held."""
        found = self._earliest_match() if self._stops else None
        return self._cut(found) if found is not None else self._release(len(self.held))

    def _cut(self, found: tuple[int, str]) -> str:
        at, self.matched = found
        released = self._release(at)
        self.held = ""
        return released

    def _release(self, count: int) -> str:
        released, self.held = self.held[:count], self.held[count:]
        return released

    def _earliest_match(self) -> tuple[int, str] | None:
        matches = [(self.held.find(stop), stop) for stop in self._stops]
        found = [match for match in matches if match[0] >= 0]
        return min(found, key=lambda match: (match[0], len(match[1])), default=None)

    def _longest_beginning(self) -> int:
        """Length of the longest end of `held` that is the beginning of some stop string."""
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(self.held)), 0, -1):
            tail = self.held[-length:]
            if any(len(stop) > length and stop.startswith(tail) for stop in self._stops):
                return length
        return 0
