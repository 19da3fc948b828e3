"""Admission: how many requests of whom may run or wait, and whose turn it is.

Owns the accounts of the uids. Knows nothing of what a request asks.

The engine gets as many requests as it decodes together and the others wait here, for the engine
knows no users: who is first in its queue is first. Whose turn is next goes by deficit round robin
(Shreedhar and Varghese, 1995), in tokens, charged as they are made: what an answer costs is not
known before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from qwend.config import LimitsConfig
from qwend.daemon.account import Account
from qwend.daemon.journal import Entry
from qwend.engine.request import Kind, Priority
from qwend.errors import CapacityError

# What a client is told to wait when the queue is full: about one short answer on a small machine.
RETRY_AFTER_S = 2.0
# Tokens that each gets when nobody has any left: a short answer. More would be less even, and less
# no different, for a request is not divided.
QUANTUM = 64


# The last places, one in 8, are for users who have none yet: an answer may take minutes, and two
# users with four each must not keep a third from so much as beginning.
LAST_PLACES = 8


class Admission:
    """Each uid has at most `running_per_uid` requests at the engine, all of them at most `places`;
    the others wait here.

    Interactive ones do not count the background ones, for those give way at the engine: they start
    beside them, and before those that wait. What is only tokenized takes no place.

    clock: CLOCK_MONOTONIC in seconds.
    """

    def __init__(self, limits: LimitsConfig, places: int, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._places = places
        self._clock = clock
        self._accounts: dict[int, Account] = {}  # in the order of their turns
        self._placed: Counter[Priority] = Counter()

    @property
    def waiting(self) -> int:
        return sum(len(one.waiting) for one in self._accounts.values())

    def of_each_uid(self) -> dict[int, tuple[int, int]]:
        """Requests at the engine, and requests waiting here, by uid."""
        accounts = self._accounts.values()
        return {one.uid: (one.running.total(), len(one.waiting)) for one in accounts}

    def check(self, uid: int, priority: Priority, kind: Kind) -> None:
        """Raises: CapacityError if the uid may not even wait."""
        account = self._account(uid)
        self._check_tokens(account, kind)
        if self._may_run(account, priority, kind):
            return
        if len(account.waiting) >= self.limits.queued_per_uid:
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
        account = self._account(entry.owner.uid)
        request = entry.request
        if self._may_run(account, request.priority, request.kind):
            self._run(account, entry)
            return None
        before = [one for one in account.waiting if _goes_before(one, entry)]
        account.waiting.insert(len(before), entry)
        return _counted(account.running, request.priority) + len(before)

    def leave(self, entry: Entry) -> None:
        """The request has ended: ask for `next_to_run`."""
        account = self._accounts[entry.owner.uid]
        if entry in account.waiting:
            account.waiting.remove(entry)
        else:
            account.running[entry.request.priority] -= 1
            if entry.request.kind is not Kind.TOKENIZE:
                self._placed[entry.request.priority] -= 1

    def next_to_run(self) -> Entry | None:
        """Whose turn it is, of those that may run now; it counts as running. Ask until None."""
        runnable = {}
        for account in self._accounts.values():
            for entry in account.waiting:
                if self._may_run(account, entry.request.priority, entry.request.kind):
                    runnable[account.uid] = entry
                    break
        urgent = {uid: one for uid, one in runnable.items() if _is_urgent(one)}
        if not runnable:
            return None
        uid = self._turn(list(urgent or runnable))
        entry = runnable[uid]
        account = self._accounts[uid]
        account.waiting.remove(entry)
        self._run(account, entry)
        return entry

    def charge(self, uid: int, tokens: int) -> None:
        """These were computed for the uid. What it has while nobody waits is taken from nobody."""
        account = self._account(uid)
        account.spend(tokens, self.limits.tokens_per_minute, self._clock())
        if self.waiting:
            account.deficit -= tokens

    def _turn(self, uids: list[int]) -> int:
        """The first of the uids, in the order of turns, that has tokens left to spend."""
        accounts = [self._accounts[uid] for uid in uids]
        most = max(one.deficit for one in accounts)
        if most <= 0:
            rounds = 1 + -most // QUANTUM  # until the first has some: not one by one
            for one in accounts:
                one.deficit += rounds * QUANTUM
        return next(one.uid for one in accounts if one.deficit > 0)

    def _check_tokens(self, account: Account, kind: Kind) -> None:
        per_minute = self.limits.tokens_per_minute
        wait_s = account.over_for_s(per_minute, self._clock())
        if wait_s and kind is not Kind.TOKENIZE:
            raise CapacityError(
                f"uid {account.uid} has had its {per_minute} tokens of the last minute "
                "(tokens_per_minute under [limits])",
                retry_after_s=round(wait_s, 3),
            )

    def _account(self, uid: int) -> Account:
        now = self._clock()
        account = self._accounts.get(uid)
        if account is None:
            self._forget(now)
            account = self._accounts[uid] = Account(uid, now)
        account.used_s = now
        return account

    def _forget(self, now: float) -> None:
        per_minute = self.limits.tokens_per_minute
        for one in list(self._accounts.values()):
            if one.forgettable(per_minute, now):
                del self._accounts[one.uid]

    def _run(self, account: Account, entry: Entry) -> None:
        self._accounts[account.uid] = self._accounts.pop(account.uid)  # the next turn is another's
        account.running[entry.request.priority] += 1
        if entry.request.kind is not Kind.TOKENIZE:
            self._placed[entry.request.priority] += 1

    def _may_run(self, account: Account, priority: Priority, kind: Kind) -> bool:
        own = _counted(account.running, priority)
        shared = self.limits.running_per_uid < self._places  # else one user is meant to have all
        kept = self._places // LAST_PLACES if own and shared else 0
        free = kind is Kind.TOKENIZE or _counted(self._placed, priority) < self._places - kept
        return free and own < self.limits.running_per_uid


def _counted(running: Counter[Priority], priority: Priority) -> int:
    """Running requests that count against one of this priority."""
    background = priority is Priority.BACKGROUND
    return running.total() if background else running[Priority.INTERACTIVE]


def _is_urgent(entry: Entry) -> bool:
    return entry.request.priority is Priority.INTERACTIVE


def _goes_before(waiting: Entry, entry: Entry) -> bool:
    return _is_urgent(waiting) or not _is_urgent(entry)
