"""Continuity: what of a request outlives its connection, and what outlives the front.

Owns the notes for the next front and the answers that wait for another connection. The broker
tells of each step and does what is decided here; both know the same entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from qwend.daemon.journal import CREDIT_WINDOW, Entry, Owner, Timer
from qwend.daemon.kept_requests import KeptRequests, Left
from qwend.daemon.resumable import KEPT_S, Absent, Resumable, missing
from qwend.engine.events import Event, Produced, Started
from qwend.wire.codes import ErrorCode
from qwend.wire.generation import Generation
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.replies import Accepted, Done, Progress
from qwend.wire.requests import Chat, Complete
from qwend.wire.resume import Resume

if TYPE_CHECKING:
    from qwend.daemon.broker import Broker
    from qwend.daemon.resolve import Submitted


class Continuity:
    """broker: whose requests these are. kept: notes for the next front.

    call_later: seconds, callback -> timer. clock: CLOCK_MONOTONIC in seconds.
    """

    def __init__(
        self,
        broker: Broker,
        kept: KeptRequests,
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        self._broker = broker
        self._kept = kept
        self._clock = clock
        self._resumable = Resumable(call_later, self._nobody_came)

    # Of each request, by the broker

    def begin(self, entry: Entry) -> None:
        """A request is open."""
        self._resumable.add(entry)
        self._note(entry)

    def _note(self, entry: Entry) -> None:
        """Note it as far as it is, in place of what was noted: what was on its way to a connection
        that is lost was never noted."""
        assert entry.message is not None
        self._kept.forget(entry.note)
        entry.note = self._kept.open(
            Left(
                0,
                entry.owner.uid,
                entry.owner.page,
                entry.client_id,
                entry.message,
                entry.request.received_s,
                entry.deadline_s,
                entry.allowance,
                entry.so_far,
                model=entry.model,
            )
        )

    def told(self, entry: Entry, event: Event, note: int) -> None:
        """The client has been told of it. note: that the entry had then."""
        if note != entry.note:
            return  # noted anew meanwhile, with this
        if isinstance(event, Produced):
            self._kept.extend(entry.note, event)
        elif isinstance(event, Started):
            self._kept.start(entry.note, event, entry.model)

    def allowed(self, entry: Entry, allowance: int) -> None:
        self._kept.allow(entry.note, allowance)

    def keeps(self, entry: Entry, done: Done) -> None:
        """The answer is complete, and its turn goes to the disk."""
        self._kept.keep(entry.note, done, entry.so_far)

    def park(self, entry: Entry, request_id: int) -> None:
        """Its connection is lost, and it waits for another one, under another id."""
        entry.parked, entry.forwarded = True, False
        absent = Absent(entry.owner.uid)
        self._broker.journal.hand(entry, absent, entry.client_id, request_id)
        self._note(entry)
        self._kept.park(entry.note, self._clock())
        self._resumable.wait(entry)

    def end(self, entry: Entry, last: DaemonMessage | None) -> None:
        """Tell the client; one that can be gone on with is remembered, if it does not hear it."""
        if entry.key is None or not isinstance(last, Done | Error):
            self._resumable.discard(entry.owner.uid, entry.key)
            if last is None:
                self._kept.forget(entry.note)
            else:
                entry.owner.send(last, lambda: self._kept.forget(entry.note))
            return
        end = entry.last = last
        entry.forget_prompt()
        self._resumable.wait(entry)
        entry.owner.send(last, lambda: self._note_end(entry, end))

    def key_in_use(self, uid: int, message: Submitted) -> Error | None:
        key = message.generation.resume if isinstance(message, Chat | Complete) else None
        entry = None if key is None else self._resumable.find(uid, key)
        if entry is None or entry.last is not None:
            return None
        return Error(
            ErrorCode.INVALID_VALUE,
            f"resume: an open request has the key {key!r}; send resume to go on with it, or choose "
            "another key",
            id=message.id,
        )

    def give_up_parked_of_session(self, uid: int, name: str) -> None:
        """Who asks anew in a session does not come back for the answer that was lost."""
        for entry in self._resumable:
            waits = entry.parked and not entry.settling and entry.owner.uid == uid
            if waits and entry.turn is not None and entry.turn.name == name:
                self._resumable.discard(uid, entry.key)
                self._nobody_came(entry)

    # Another connection

    def take_up(self, owner: Owner, message: Resume) -> None:
        """Go on with an answer over this connection, from where its client is."""
        duplicate = self._broker.duplicate(owner, message.id)
        # A connection that was taken over may ask before all that was left is reopened.
        left = self._kept.left_with(owner.uid, message.key)
        if left is not None:
            self.reopen(Absent(owner.uid), left)
        entry = self._resumable.find(owner.uid, message.key)
        if duplicate is not None:
            owner.send(duplicate)
        elif entry is None or entry.produced < message.tokens:
            owner.send(_unknown(message.id))
        elif entry.last is not None:
            self._say_what_is_missing(entry, owner, message)
            owner.send(replace(entry.last, id=message.id))
        else:
            self._resumable.come_for(entry)
            self._broker.journal.hand(entry, owner, message.id, entry.id)
            self._note(entry)
            self._say_what_is_missing(entry, owner, message)
            waited, entry.parked = entry.parked, False
            self._broker.go_on(entry, waited=waited)

    def _say_what_is_missing(self, entry: Entry, owner: Owner, message: Resume) -> None:
        if entry.so_far.started_s:
            started = entry.so_far.started_event(entry.id)
            owner.send(Accepted(message.id, started.prompt_tokens, started.cached_tokens))
        for token in missing(entry, message):
            owner.send(token)

    # Another front

    def left_on(self, page: int, uid: int) -> dict[int, Left]:
        """What an earlier front has left of this connection, by the client's id."""
        return self._kept.left_on(page, uid)

    def reopen(self, owner: Owner, left: Left) -> None:
        """Go on with a request that an earlier front had accepted."""
        if left.last is not None:
            self._remember(owner, left, left.last)
            return
        if getattr(left.message, "session", None) and not self._broker.conversations.capabilities:
            owner.send(_unknown(left.client_id))  # they are no longer kept
            return
        heard = left.so_far
        so_far = left.whole or heard
        window = len(so_far.tokens) + CREDIT_WINDOW
        granted = window if left.allowance is None else min(window, left.allowance)
        entry = self._broker.entry_again(owner, left, so_far, granted)
        entry.keeping = left.keeping
        entry.parked = isinstance(owner, Absent)
        entry.deadline_s = left.deadline_s
        self._broker.open(entry)
        if entry.parked:
            self._kept.park(entry.note, self._clock())
            self._resumable.wait(entry)
            return
        owner.send(Progress(entry.client_id, "recovering", len(heard.tokens), 0))
        there = len(heard.tokens), len(heard.content), len(heard.reasoning)
        for token in missing(entry, Resume(entry.client_id, "", *there)):
            owner.send(token)
        self._broker.go_on(entry, waited=True)

    def reopen_parked(self) -> None:
        """Those of an earlier front whose connection is lost wait for another one."""
        for left in self._kept.left_parked():
            self.reopen(Absent(left.uid), left)
        self._kept.sweep()

    def may_leave(self, owner: Owner) -> bool:
        """The next front can go on with all that the owner has open."""
        return all(one.note and not one.settling for one in self._broker.journal.of_owner(owner))

    def leave(self, owner: Owner) -> None:
        """The next front goes on with what the owner has open."""
        self._broker.leave(self._broker.journal.of_owner(owner))

    def leave_parked(self) -> None:
        """The next front goes on with what waits for another connection, or nobody does."""
        parked = [one for one in self._broker.journal if one.parked and not one.settling]
        self._broker.leave(parked)

    def _remember(self, owner: Owner, left: Left, last: Done | Error) -> None:
        entry = self._broker.entry_again(owner, left, left.so_far, 0)
        entry.last = last
        entry.forget_prompt()
        self._resumable.add(entry)
        self._resumable.wait(entry)
        self._note_end(entry, last)

    def _note_end(self, entry: Entry, last: Done | Error) -> None:
        """In place of all that was noted of it: its prompt is of no use any more."""
        self._kept.forget(entry.note)
        bare = Complete(entry.client_id, "", Generation(resume=entry.key))
        left = Left(0, entry.owner.uid, 0, entry.client_id, bare, 0.0, None, None, entry.so_far)
        entry.note = self._kept.open(left)
        self._kept.end(entry.note, last)

    def _nobody_came(self, entry: Entry) -> None:
        self._kept.forget(entry.note)
        entry.message = None  # so that its end is not remembered either
        self._broker.withdraw(entry)


def _unknown(client_id: int) -> Error:
    return Error(
        ErrorCode.UNKNOWN_REQUEST,
        f"no answer of this key can be gone on with: it ended more than {KEPT_S:g} s ago, or the "
        "daemon that had it is gone; ask again from the start",
        id=client_id,
    )
