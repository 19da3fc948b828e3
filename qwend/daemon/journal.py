"""The journal: every request from its acceptance to its one last message.

Owns who asked what, how far it is, and that it ends exactly once. Knows nothing of bytes or of
processes. Written by the front's event loop alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from qwend.engine.continuation import AnswerSoFar
from qwend.engine.request import EngineRequest
from qwend.wire.generation import Generation
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.replies import Done
from qwend.wire.requests import Complete

if TYPE_CHECKING:
    from qwend.daemon.conversations import Turn
    from qwend.daemon.line import Line
    from qwend.daemon.resolve import Submitted

# Tokens a request may be ahead of what its client's outbox has taken: a frame is about 100 bytes,
# so this is the most that a client that stops reading costs, 6 KiB a request.
CREDIT_WINDOW = 64


class Owner(Protocol):
    """Whom a request belongs to: one connection, or the daemon itself."""

    @property
    def uid(self) -> int: ...

    @property
    def congested(self) -> bool:
        """True while what was sent waits unread: produce no more for now."""

    @property
    def page(self) -> int:
        """Where the next front finds its connection (kept_page.py); 0: nowhere."""

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        """Queue a message to the owner. Never blocks, and does nothing once it is gone.

        then: called right before the kernel gets the message, to note it for the next front. One
        that dies before has neither said nor noted it; without `then` its client is in doubt.
        """


class Timer(Protocol):
    def cancel(self) -> None: ...


@dataclass(slots=True, eq=False)
class Entry:
    """One accepted request.

    client_id: the id the client chose; request.id is ours, unique for the life of the front.
    granted: tokens that may be made in all. so_far: those that have been.
    allowance: tokens the client allows in all; None: as fast as it reads.
    deadline_s: CLOCK_MONOTONIC at which it must be over.
    forwarded: admitted, so it counts as running. at_engine: the engine that runs now has it.
    line: over which it was last sent to an engine.
    message: as the client sent it. note: its number in kept_requests.py; 0: it is not kept.
    unwanted: its client has cancelled it. parked: its connection is lost, and it waits for another.
    last: how it ended. keeping: how it ended for an earlier front, whose turn may be on the disk.
    deaths: of engines that had it, without its getting on in between; see blame.py.
    turn: of a session; settling: its answer is complete, and on its way to the disk.
    """

    request: EngineRequest
    client_id: int
    owner: Owner
    allowance: int | None = None
    granted: int = 0
    so_far: AnswerSoFar = field(default_factory=AnswerSoFar)
    forwarded: bool = False
    turn: Turn | None = None
    settling: bool = False
    at_engine: bool = False
    line: Line | None = None
    deaths: int = 0
    tokens_at_death: int = 0
    message: Submitted | None = None
    note: int = 0
    parked: bool = False
    unwanted: bool = False
    last: Done | Error | None = None
    keeping: Done | None = None
    deadline_s: float | None = None
    deadline: Timer | None = field(default=None, repr=False)

    @property
    def id(self) -> int:
        return self.request.id

    @property
    def begun(self) -> bool:
        """An engine has counted its prompt: no other model can go on with it."""
        return bool(self.so_far.started_s)

    @property
    def model(self) -> str:
        """That has begun it, as `Line.model` says; empty: none."""
        return self.line.model if self.begun and self.line is not None else ""

    @property
    def key(self) -> str | None:
        """With which it can be gone on with."""
        generation = getattr(self.message, "generation", None)
        return None if generation is None else generation.resume

    @property
    def produced(self) -> int:
        """Tokens that have been told."""
        return len(self.so_far.tokens)

    @property
    def paused(self) -> bool:
        """It may produce nothing before its client has read more."""
        return self.granted <= self.produced

    def forget_prompt(self) -> None:
        """It is over: only what was said is of use, and the key it is found by."""
        assert self.message is not None
        self.message = Complete(self.client_id, "", Generation(resume=self.key))
        self.request = replace(self.request, turns=None, text="", tokens=None)

    def for_engine(self) -> EngineRequest:
        """The request as an engine gets it that knows nothing of it."""
        left = self.granted - self.produced
        return replace(self.request, credit=left, continuation=self.so_far.continuation())

    def next_grant(self) -> int:
        """Tokens to grant now, to fill the window within what the client allows; or 0."""
        if self.owner.congested:
            return 0
        target = self.produced + CREDIT_WINDOW
        if self.allowance is not None:
            target = min(target, self.allowance)
        missing = target - self.granted
        # Granting one token at a time would be a message to the engine for each token back.
        worth_it = missing >= CREDIT_WINDOW // 2 or self.granted <= self.produced
        return missing if missing > 0 and worth_it else 0


class Journal:
    """Accepted requests that have not ended. `close` is the only way out."""

    def __init__(self) -> None:
        self._by_id: dict[int, Entry] = {}
        self._by_client: dict[tuple[int, int], Entry] = {}
        self.accepted = 0
        self.done = 0
        self.failed = 0

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def parked(self) -> int:
        """Entries that wait for their client to come back."""
        return sum(entry.parked for entry in self._by_id.values())

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._by_id.values()))

    def open(self, entry: Entry) -> None:
        self._by_id[entry.id] = entry
        self._by_client[id(entry.owner), entry.client_id] = entry
        self.accepted += 1

    def find(self, request_id: int) -> Entry | None:
        """The entry, or None if it has ended: events may still be under way for it."""
        return self._by_id.get(request_id)

    def of_client(self, owner: Owner, client_id: int) -> Entry | None:
        return self._by_client.get((id(owner), client_id))

    def of_owner(self, owner: Owner) -> list[Entry]:
        return [entry for entry in self._by_id.values() if entry.owner is owner]

    def hand(self, entry: Entry, owner: Owner, client_id: int, request_id: int) -> None:
        """The entry belongs to another owner, under other ids: what is still under way for the old
        ones finds nothing."""
        del self._by_id[entry.id]
        self._by_client.pop((id(entry.owner), entry.client_id), None)
        entry.owner, entry.client_id = owner, client_id
        entry.request = replace(entry.request, id=request_id)
        self._by_id[request_id] = entry
        self._by_client[id(owner), client_id] = entry

    def leave(self, entry: Entry) -> None:
        """The next front goes on with it: here it neither ends nor goes on."""
        if self._by_id.pop(entry.id, None) is not None:
            self._by_client.pop((id(entry.owner), entry.client_id), None)
            if entry.deadline is not None:
                entry.deadline.cancel()

    def close(self, entry: Entry, *, failed: bool) -> bool:
        """End an entry; False if it had ended before, and then nothing may be sent for it."""
        if self._by_id.pop(entry.id, None) is None:
            return False
        del self._by_client[id(entry.owner), entry.client_id]
        if entry.deadline is not None:
            entry.deadline.cancel()
        if failed:
            self.failed += 1
        else:
            self.done += 1
        return True
