"""The lines to the engines: which engine has which request, and who goes over to another.

Owns what crosses to an engine. There is one line for what comes from now on; while the model is
being changed there is another, over which what was begun goes on to its end, for no other model can
go on with it. What no engine has begun goes over the newest line, whatever becomes of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from qwend.daemon.blame import Blame
from qwend.daemon.journal import Entry, Journal
from qwend.daemon.line import Arrival, Line, SendToEngine
from qwend.engine import hop
from qwend.wire.codes import ErrorCode
from qwend.wire.replies import Progress

Fail = Callable[[Entry, ErrorCode, str], None]


class Lines:
    """new_id: of a request, as engines know it. fail: ends a request with an error."""

    def __init__(
        self, journal: Journal, blame: Blame, new_id: Callable[[], int], fail: Fail
    ) -> None:
        self.current = Line()
        """Over which everything goes that no engine has begun."""
        self._journal = journal
        self._blame = blame
        self._new_id = new_id
        self._fail = fail
        self._fewer = asyncio.Event()

    # What becomes of an engine. line: whose; None: that of new requests.

    def attach(self, send: SendToEngine, line: Line | None = None) -> None:
        """An engine is ready: what waited for one goes to it now, begun answers too."""
        line = line or self.current
        line.send, line.arrival = send, None
        self._hand_over_all()

    def lost(self, reason: str, line: Line | None = None) -> None:
        """The engine died: the next one goes on with what it was working on, unless it was the
        request that it died of."""
        line = line or self.current
        line.send = line.gauges = None
        at_work = [entry for entry in self._journal if entry.at_engine and entry.line is line]
        for entry in at_work:
            entry.at_engine = False
        self.note_fewer()
        culprit = self._blame.died(at_work)
        if culprit is not None:
            self._fail(culprit, ErrorCode.POISON_REQUEST, f"{reason}, twice over this request")
        for entry in at_work:
            if entry is not culprit:
                entry.owner.send(Progress(entry.client_id, "recovering", entry.produced, 0))
        if line is not self.current:  # what it had not begun need not wait for it
            self._hand_over_all()

    def fail(self, line: Line, code: ErrorCode, message: str) -> None:
        """This line's engine will not come back: end what waits for it."""
        for entry in self._journal:
            if entry.forwarded and not entry.settling and self._line_of(entry) is line:
                self._fail(entry, code, message)

    # From one to another

    def switch(self, line: Line) -> None:
        """From now on everything that no engine has begun goes over this line."""
        self.current = line
        self._hand_over_all()

    def recall(self, line: Line) -> None:
        """What is at this line's engine and was not begun goes over the line of new requests."""
        for entry in self._journal:
            if entry.at_engine and entry.line is line and not entry.begun:
                self.take_back(entry)
                # Under another id: what that engine still says of the old one finds nothing.
                self._journal.hand(entry, entry.owner, entry.client_id, self._new_id())
                self.hand_over(entry)

    def bound_to(self, line: Line) -> int:
        """Requests that nobody but this line's engine can end."""
        return sum(
            entry.line is line and not entry.settling and (entry.at_engine or entry.begun)
            for entry in self._journal
        )

    async def fewer_bound_to(self, line: Line) -> AsyncIterator[int]:
        """Yield how many are bound to it, now and when one has ended, as long as there are any."""
        while left := self.bound_to(line):
            self._fewer.clear()
            yield left
            await self._fewer.wait()

    def note_fewer(self) -> None:
        """One has ended, or needs its engine no more."""
        self._fewer.set()

    def arriving(self, line: Line, arrival: Arrival) -> None:
        """Tell those who wait for this line's engine how far it is."""
        line.arrival = arrival
        for entry in self._journal:
            if entry.forwarded and not entry.at_engine and self._line_of(entry) is line:
                _tell_arrival(entry, arrival)

    # One request

    def hand_over(self, entry: Entry) -> None:
        """Send it to its engine, now or once that is ready and it is its turn."""
        if entry.at_engine or self._blame.holds(entry):
            return
        line = self._line_of(entry)
        if line.send is None:
            _wait_for(line, entry)
            return
        entry.at_engine, entry.line = True, line
        line.send(hop.submit(entry.for_engine()))
        self.let_next_suspect_go(entry, over=entry.paused)

    def let_next_suspect_go(self, entry: Entry, *, over: bool) -> None:
        """It got on, or does no more for now (blame.py)."""
        following = self._blame.next_turn(entry, over=over)
        if following is not None:
            self.hand_over(following)

    def grant(self, entry: Entry) -> None:
        """Let it produce as much as its client may still be sent."""
        tokens = entry.next_grant()
        send = _engine_of(entry)
        if tokens and send is not None:
            entry.granted += tokens
            send(hop.grant(entry.id, tokens))

    def cancel(self, entry: Entry) -> bool:
        """Have its engine end it; False if none has it."""
        send = _engine_of(entry)
        if send is not None:
            send(hop.cancel(entry.id))
        return send is not None

    def take_back(self, entry: Entry) -> None:
        """Its engine stops working on it, and nobody listens to what it says of it."""
        self.cancel(entry)
        entry.at_engine = False

    def _hand_over_all(self) -> None:
        for entry in self._journal:
            if entry.forwarded:
                self.hand_over(entry)

    def _line_of(self, entry: Entry) -> Line:
        return entry.line if entry.begun and entry.line is not None else self.current


def _engine_of(entry: Entry) -> SendToEngine | None:
    """The way to the engine that has it."""
    return entry.line.send if entry.at_engine and entry.line is not None else None


def _wait_for(line: Line, entry: Entry) -> None:
    wake, line.wake = line.wake, None
    if wake is not None:
        wake()
    if line.arrival is not None:
        _tell_arrival(entry, line.arrival)


def _tell_arrival(entry: Entry, arrival: Arrival) -> None:
    if not entry.begun:
        stage, done, total = arrival.stage, arrival.done, arrival.total
        entry.owner.send(Progress(entry.client_id, stage, done, total))
