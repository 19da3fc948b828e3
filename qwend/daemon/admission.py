"""Admission: how many requests of whom may run or wait.

Owns the counts and the queues per uid. Knows nothing of what a request asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from qwend.config import LimitsConfig
from qwend.daemon.journal import Entry
from qwend.engine.request import Priority
from qwend.errors import CapacityError

# What a client is told to wait when the queue is full: about one short answer on a small machine.
RETRY_AFTER_S = 2.0


class Admission:
    """Each uid has at most `running_per_uid` requests at the engine; its others wait here.

    Interactive ones do not count the background ones, for those give way at the engine: they start
    beside them, and before those that wait.
    """

    def __init__(self, limits: LimitsConfig) -> None:
        self.limits = limits
        self._running: dict[int, Counter[Priority]] = defaultdict(Counter)
        self._waiting: dict[int, list[Entry]] = defaultdict(list)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def check(self, uid: int, priority: Priority) -> None:
        """Raises: CapacityError if the uid may not even wait."""
        if self._may_run(uid, priority):
            return
        if len(self._waiting[uid]) >= self.limits.queued_per_uid:
            raise CapacityError(
                f"uid {uid} already has {self.limits.queued_per_uid} requests waiting "
                "(queued_per_uid under [limits]); wait for one to end",
                retry_after_s=RETRY_AFTER_S,
            )
        if self.waiting >= self.limits.queued:
            raise CapacityError(
                f"{self.limits.queued} requests are waiting (queued under [limits])",
                retry_after_s=RETRY_AFTER_S,
            )

    def enter(self, entry: Entry) -> int | None:
        """Let the request run now (None), or queue it: how many of its uid are before it."""
        uid, priority = entry.owner.uid, entry.request.priority
        if self._may_run(uid, priority):
            self._running[uid][priority] += 1
            return None
        before = [one for one in self._waiting[uid] if _goes_before(one, entry)]
        self._waiting[uid].insert(len(before), entry)
        return self._counted(uid, priority) + len(before)

    def leave(self, entry: Entry) -> Entry | None:
        """The request has ended. Returns the one that may run in its place."""
        uid = entry.owner.uid
        waiting = self._waiting[uid]
        if entry in waiting:
            waiting.remove(entry)
            return None
        self._running[uid][entry.request.priority] -= 1
        if waiting and self._may_run(uid, waiting[0].request.priority):
            self._running[uid][waiting[0].request.priority] += 1
            return waiting.pop(0)
        if not self._running[uid].total():
            del self._running[uid], self._waiting[uid]
        return None

    def _may_run(self, uid: int, priority: Priority) -> bool:
        return self._counted(uid, priority) < self.limits.running_per_uid

    def _counted(self, uid: int, priority: Priority) -> int:
        """Running requests that count against one of this priority."""
        running = self._running[uid]
        background = priority is Priority.BACKGROUND
        return running.total() if background else running[Priority.INTERACTIVE]


def _goes_before(waiting: Entry, entry: Entry) -> bool:
    urgent = waiting.request.priority is Priority.INTERACTIVE
    return urgent or entry.request.priority is Priority.BACKGROUND
