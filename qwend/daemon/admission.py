"""Admission: how many requests of whom may run or wait.

Owns the counts and the queues per uid. Knows nothing of what a request asks.
"""

from __future__ import annotations

from collections import defaultdict, deque

from qwend.config import LimitsConfig
from qwend.daemon.journal import Entry
from qwend.errors import CapacityError

# What a client is told to wait when the queue is full: about one short answer on a small machine.
RETRY_AFTER_S = 2.0


class Admission:
    """Each uid has at most `running_per_uid` requests at the engine; its others wait here."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._running: dict[int, int] = defaultdict(int)
        self._waiting: dict[int, deque[Entry]] = defaultdict(deque)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def check(self, uid: int) -> None:
        """Raises: CapacityError if the uid may not even wait."""
        if self._running[uid] < self._limits.running_per_uid:
            return
        if len(self._waiting[uid]) >= self._limits.queued_per_uid:
            raise CapacityError(
                f"uid {uid} already has {self._limits.queued_per_uid} requests waiting "
                "(queued_per_uid under [limits]); wait for one to end",
                retry_after_s=RETRY_AFTER_S,
            )
        if self.waiting >= self._limits.queued:
            raise CapacityError(
                f"{self._limits.queued} requests are waiting (queued under [limits])",
                retry_after_s=RETRY_AFTER_S,
            )

    def enter(self, entry: Entry) -> int | None:
        """Let the request run now (None), or queue it: how many of its uid are before it."""
        uid = entry.owner.uid
        if self._running[uid] < self._limits.running_per_uid:
            self._running[uid] += 1
            return None
        self._waiting[uid].append(entry)
        return self._running[uid] + len(self._waiting[uid]) - 1

    def leave(self, entry: Entry) -> Entry | None:
        """The request has ended. Returns the one that may run in its place."""
        uid = entry.owner.uid
        if entry in self._waiting[uid]:
            self._waiting[uid].remove(entry)
            return None
        self._running[uid] -= 1
        if self._waiting[uid]:
            self._running[uid] += 1
            return self._waiting[uid].popleft()
        if not self._running[uid]:
            del self._running[uid], self._waiting[uid]
        return None
