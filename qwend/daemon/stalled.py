"""Requests that have a place at the engine and no credit to go on.

Owns since when. A client may take its time with an answer, but not with a place that others wait
for: its request keeps cells and a sequence of the engine as long as it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwend.daemon.journal import Entry

# How often it is looked while somebody waits.
LOOK_EVERY_S = 1.0


class Stalled:
    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}  # tokens made, and since when no more

    def look(self, entries: Iterable[Entry], now: float, patience_s: float) -> list[Entry]:
        """Those that have had no credit for so long, the longest first.

        A request counts from the first look that finds it without.
        """
        without = [one for one in entries if _has_no_credit(one)]
        seen = {}
        for entry in without:
            produced, since = self._seen.get(entry.id, (entry.produced, now))
            seen[entry.id] = (entry.produced, since if produced == entry.produced else now)
        self._seen = seen
        without.sort(key=lambda one: seen[one.id][1])
        return [one for one in without if now - seen[one.id][1] >= patience_s]


def _has_no_credit(entry: Entry) -> bool:
    return entry.forwarded and entry.allowance is not None and entry.produced >= entry.allowance
