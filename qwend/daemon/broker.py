"""The broker: between the sessions of the clients and the engine.

Owns the journal and the admission, and with them the promise that every accepted request ends in
exactly one `done` or `error`. Knows nothing of sockets or processes: sessions come as Owners, and
which engine has what is known to its lines (lines.py).

The only arrow against the flow is `cancel`: a client's cancel, a disconnect, a deadline, a slow
reader and a drain are all that one call to the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from qwend.config import Config, SessionsConfig
from qwend.daemon.admission import Admission
from qwend.daemon.blame import Blame
from qwend.daemon.continuity import Continuity
from qwend.daemon.conversations import Conversations
from qwend.daemon.energy_ledger import EnergyLedger
from qwend.daemon.journal import CREDIT_WINDOW, Entry, Journal, Owner, Timer
from qwend.daemon.kept_requests import KeptRequests, Left
from qwend.daemon.line import Line
from qwend.daemon.lines import Lines
from qwend.daemon.resolve import Resolver, Submitted, priority_of
from qwend.daemon.stalled import LOOK_EVERY_S, Stalled
from qwend.daemon.translate import as_message
from qwend.engine.continuation import AnswerSoFar
from qwend.engine.events import Event, Failed, Finished, Gauges, Produced, Queued, Started
from qwend.engine.request import PUBLIC_UID, EngineRequest, Kind
from qwend.errors import CapacityError, QwendError, RequestError
from qwend.wire.codes import ErrorCode
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.prompt import ChatMessage
from qwend.wire.replies import Done, Progress
from qwend.wire.requests import Chat, Complete

DRAINED = "an administrator has told the daemon to take no new requests (qwenctl reload ends that)"
# As often as somebody who waits for a person asks again.
DRAINED_RETRY_S = 10.0
Schedule = Callable[[float, Callable[[], None]], Timer]


class Broker:
    """call_later: seconds, callback -> timer; clock: CLOCK_MONOTONIC in seconds.

    energy: who shares out the joules; None: nobody does. conversations: of sessions; None: none.
    kept: notes for the next front; None: nothing is kept.
    """

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float],
        call_later: Schedule,
        energy: EnergyLedger | None = None,
        conversations: Conversations | None = None,
        kept: KeptRequests | None = None,
    ) -> None:
        self.journal = Journal()
        self.resolver = Resolver(config.sampling, config.chat)
        self.conversations = conversations or Conversations(SessionsConfig(), None)
        # The engine has a row for everyone who decodes, so no more run than it has rows.
        places = min(config.engine.max_sequences, config.engine.ubatch)
        self.admission = Admission(config.limits, places, clock)
        self._blame = Blame(clock)
        self._ids = count(1)
        self.lines = Lines(self.journal, self._blame, lambda: next(self._ids), self._fail)
        self.continuity = Continuity(self, kept or KeptRequests(None), clock, call_later)
        self._clock = clock
        self._energy = energy if energy is not None else EnergyLedger(lambda: None)
        self._call_later = call_later
        self._refusal: tuple[ErrorCode, str] | None = None
        self._stalled = Stalled()
        self._looking: Timer | None = None
        self.drained = False
        """Accepted requests go on, clients' new ones are told to come back later."""
        self._empty = asyncio.Event()
        self._empty.set()
        self.idle_since_s = clock()
        """Since when no request is open, where none is."""

    async def emptied(self) -> None:
        """Return once no request is open."""
        await self._empty.wait()

    @property
    def waiting(self) -> int:
        return self.admission.waiting

    @property
    def gauges(self) -> Gauges | None:
        """Of the engine that takes new requests."""
        return self.lines.current.gauges

    def refuse(self, code: ErrorCode, message: str) -> None:
        """From now on new requests get this error; accepted ones go on."""
        self._refusal = (code, message)

    def accept(self) -> None:
        """New requests are taken again."""
        self._refusal = None

    def reconfigure(self, config: Config) -> None:
        """From the next request on other defaults and limits hold."""
        self.resolver = Resolver(config.sampling, config.chat)
        self.admission.limits = config.limits
        self.conversations.limits = config.sessions
        self._start_waiting()

    def submit(self, owner: Owner, message: Submitted) -> None:
        """Take a client's request, or answer at once why not."""
        refused = self._why_not(owner, message)
        if refused is not None:
            owner.send(refused)
            return
        generation = message.generation if isinstance(message, Chat | Complete) else None
        allowance = None if generation is None else generation.credit
        first = CREDIT_WINDOW if allowance is None else min(CREDIT_WINDOW, allowance)
        request = self._request(owner, message, self._clock())
        if self._blame.refuses(request):
            owner.send(_poison(message.id))
            return
        entry = Entry(request, message.id, owner, allowance=allowance, granted=first)
        entry.message = _with_seed(message, request.sampling.seed)
        entry.turn = self.conversations.turn(owner.uid, message)
        limit_s = None if generation is None else generation.deadline_s
        entry.deadline_s = None if limit_s is None else request.received_s + limit_s
        self.open(entry)
        self._let_in(entry)

    def entry_again(self, owner: Owner, left: Left, so_far: AnswerSoFar, granted: int) -> Entry:
        """The entry of a request that an earlier front has accepted."""
        request = self._request(owner, left.message, left.received_s)
        entry = Entry(request, left.client_id, owner, allowance=left.allowance, granted=granted)
        entry.message, entry.so_far = left.message, so_far
        entry.line = self.lines.current if entry.begun else None
        if left.last is None:
            entry.turn = self.conversations.turn(owner.uid, left.message)
        if entry.turn is not None:
            entry.turn.say(so_far.content)
        return entry

    def open(self, entry: Entry) -> None:
        """From here on the request is ours."""
        if entry.deadline_s is not None:
            limit_s = entry.deadline_s - entry.request.received_s
            left_s = max(entry.deadline_s - self._clock(), 0.0)
            entry.deadline = self._call_later(left_s, lambda: self._expire(entry, limit_s))
        self.continuity.begin(entry)
        self.journal.open(entry)
        self._empty.clear()

    def go_on(self, entry: Entry, *, waited: bool) -> None:
        """It has a reader again. waited: it has had none, and no place."""
        if not waited:
            self.lines.grant(entry)
        elif not entry.settling:
            self._let_in(entry)

    def leave(self, entries: list[Entry]) -> None:
        """The next front goes on with these."""
        for entry in entries:
            self.lines.take_back(entry)
            self.journal.leave(entry)
        self._note_fewer()

    def _request(self, owner: Owner, message: Submitted, received_s: float) -> EngineRequest:
        return self.resolver.request(
            message, request_id=next(self._ids), uid=owner.uid, received_s=received_s
        )

    def cancel(self, owner: Owner, client_id: int) -> None:
        """A client's cancel. An id that has ended, or never was, is no fault: cancels race."""
        entry = self.journal.of_client(owner, client_id)
        if entry is None or entry.settling:
            return
        entry.unwanted = True
        if not self.lines.cancel(entry):  # else its `done` comes from the engine
            self._event(entry, _cancelled_here(entry, self._clock()))

    def allow(self, owner: Owner, client_id: int, tokens: int) -> None:
        """A client's credit. Without a credit in the request there is nothing to add to."""
        entry = self.journal.of_client(owner, client_id)
        if entry is not None and entry.allowance is not None:
            entry.allowance += tokens
            self.continuity.allowed(entry, entry.allowance)
            self.lines.grant(entry)

    def drop(self, owner: Owner) -> None:
        """The owner is gone: its requests end, and there is nobody to tell; those that can be gone
        on with over another connection wait for that."""
        for entry in _those_that_wait_first(self.journal.of_owner(owner)):
            if entry.key is None or entry.unwanted:
                self.withdraw(entry)
            else:
                self._park(entry)

    def _park(self, entry: Entry) -> None:
        """Free what it holds; another connection may go on with it."""
        self.lines.take_back(entry)
        if not entry.settling:
            self._leave_admission(entry)
        self.continuity.park(entry, next(self._ids))

    def fail_all(self, owner: Owner | None, code: ErrorCode, message: str) -> None:
        """End every request, or one owner's, with an error."""
        ending = list(self.journal) if owner is None else self.journal.of_owner(owner)
        for entry in _those_that_wait_first(ending):
            self._fail(entry, code, message)

    def resume(self, owner: Owner) -> None:
        """The owner reads again: its requests may go on."""
        for entry in self.journal.of_owner(owner):
            self.lines.grant(entry)

    def handle(self, events: Sequence[Event], line: Line | None = None) -> None:
        """What the engine of a line reports of requests."""
        for event in events:
            if isinstance(event, Gauges):
                (line or self.lines.current).gauges = event
                self._look_for_stalled_later()
                continue
            request_id = getattr(event, "request_id", None)
            entry = None if request_id is None else self.journal.find(request_id)
            if entry is not None:
                self._event(entry, event)

    def duplicate(self, owner: Owner, client_id: int) -> Error | None:
        """What to answer if a request has the id."""
        return None if self.journal.of_client(owner, client_id) is None else in_use(client_id)

    def _why_not(self, owner: Owner, message: Submitted) -> Error | None:
        duplicate = self.duplicate(owner, message.id) or self.continuity.key_in_use(
            owner.uid, message
        )
        if duplicate is not None:
            return duplicate
        if isinstance(message, Chat) and message.session is not None:
            self.continuity.give_up_parked_of_session(owner.uid, message.session)
        if self._refusal is not None:
            code, reason = self._refusal
            return Error(code, reason, id=message.id)
        if self.drained and owner.uid != PUBLIC_UID:
            return Error(ErrorCode.BUSY, DRAINED, id=message.id, retry_after_s=DRAINED_RETRY_S)
        try:
            self.admission.check(owner.uid, priority_of(message), Kind(message.op))
            self.conversations.check(owner.uid, message)
        except RequestError as error:
            return Error(error.code, str(error), id=message.id)
        except CapacityError as error:
            return Error(
                ErrorCode.BUSY, str(error), id=message.id, retry_after_s=error.retry_after_s
            )
        return None

    def _let_in(self, entry: Entry) -> None:
        ahead = self.admission.enter(entry)
        if ahead is None:
            self._forward(entry)
            return
        if not entry.so_far.started_s:
            entry.owner.send(Progress(entry.client_id, "queued", 0, ahead))
        self._look_for_stalled_later()

    def _start_waiting(self) -> None:
        while (entry := self.admission.next_to_run()) is not None:
            self._forward(entry)

    def _look_for_stalled_later(self) -> None:
        if self._looking is None and (self.waiting or (self.gauges and self.gauges.waiting)):
            self._looking = self._call_later(LOOK_EVERY_S, self._look_for_stalled)

    def _look_for_stalled(self) -> None:
        """Who has given no credit for long loses its request, if others wait for its place."""
        self._looking = None
        limit_s = self.admission.limits.slow_reader_s
        for entry in self._stalled.look(self.journal, self._clock(), limit_s):
            if self._others_wait(entry.owner.uid):
                self._fail(
                    entry,
                    ErrorCode.SLOW_CONSUMER,
                    f"no credit for {limit_s:g} s, while others waited for its place",
                )
                break
        self._look_for_stalled_later()

    def _others_wait(self, uid: int) -> bool:
        """Here, or at the engine, which does not say who."""
        requests = self.admission.of_each_uid()
        if any(waiting for one, (_, waiting) in requests.items() if one != uid):
            return True
        others = any(running for one, (running, _) in requests.items() if one != uid)
        return others and self.gauges is not None and self.gauges.waiting > 0

    def _forward(self, entry: Entry) -> None:
        if entry.turn is not None and not entry.turn.has_begun:
            entry.turn.read(lambda said: self._go_on(entry, said))
            return
        entry.forwarded = True
        self.lines.hand_over(entry)

    def _go_on(self, entry: Entry, said: tuple[ChatMessage, ...] | QwendError) -> None:
        """Forward a request whose session was read."""
        if self.journal.find(entry.id) is None:
            return
        if isinstance(said, QwendError):
            self.withdraw(entry, Error(said.code, str(said), id=entry.client_id))
            return
        entry.request = replace(entry.request, turns=self.resolver.turns(said))
        if entry.keeping is not None and entry.turn is not None:
            if entry.turn.is_kept(said):
                self._close(entry, replace(entry.keeping, id=entry.client_id), failed=False)
            else:
                self._finish(entry, replace(entry.keeping, id=entry.client_id))
        elif not entry.parked:
            self._forward(entry)

    def _event(self, entry: Entry, event: Event) -> None:
        message = as_message(entry.client_id, event, self._account(entry, event))
        if isinstance(event, Produced):
            self.admission.charge(entry.owner.uid, len(event.ids))
            if entry.turn is not None:
                entry.turn.say(event.text)
        if isinstance(event, Started):
            self.admission.charge(entry.owner.uid, event.prompt_tokens - event.cached_tokens)
        if isinstance(event, Finished | Failed):
            entry.at_engine = False
        if isinstance(message, Done):
            self._finish(entry, message)
        elif isinstance(event, Finished | Failed):
            if entry.turn is not None and isinstance(message, Error):
                message = entry.turn.explained(message)
            self._close(entry, message, failed=True)
        elif message is not None and not (isinstance(event, Queued) and entry.so_far.started_s):
            note = entry.note
            entry.owner.send(message, lambda: self.continuity.told(entry, event, note))
            self.lines.grant(entry)

    def _finish(self, entry: Entry, done: Done) -> None:
        """The answer is complete; one of a session is not told so before it is on the disk."""
        turn = entry.turn
        if turn is None or not turn.is_worth_keeping(done.finish_reason):
            self._close(entry, done, failed=False)
            return

        def kept(error: QwendError | None) -> None:
            if error is None:
                self._close(entry, done, failed=False)
            else:
                last = Error(error.code, str(error), id=entry.client_id)
                self._close(entry, last, failed=True)

        # A slow disk holds up nobody but who waits for this `done`.
        self.continuity.keeps(entry, done)
        entry.settling, entry.forwarded = True, False
        self.lines.note_fewer()
        if not entry.parked:
            self._leave_admission(entry)
        turn.keep(done.finish_reason, kept)

    def _account(self, entry: Entry, event: Event) -> float | None:
        """Note how far it is. Returns joules of the request, at its end."""
        match event:
            case Started():
                entry.so_far.start(event)
                self._energy.started(entry.id)
            case Produced():
                entry.so_far.extend(event)
                self._energy.produced(len(event.ids))
                self.lines.let_next_suspect_go(entry, over=entry.paused)
            case Finished():
                return self._energy.ended(entry.id, event.completion_tokens)
        return None

    def _expire(self, entry: Entry, limit_s: float) -> None:
        self._fail(
            entry,
            ErrorCode.DEADLINE_EXCEEDED,
            f"not finished within its deadline of {limit_s:g} s; {entry.produced} tokens were made",
        )

    def _fail(self, entry: Entry, code: ErrorCode, message: str) -> None:
        self.withdraw(entry, Error(code, message, id=entry.client_id))

    def withdraw(self, entry: Entry, last: DaemonMessage | None = None) -> None:
        """End it before its time."""
        if entry.settling and last is not None:
            return  # an error says that the turn is not kept, and it is on its way to the disk
        self.lines.take_back(entry)
        self._close(entry, last, failed=True)

    def _close(self, entry: Entry, last: DaemonMessage | None, *, failed: bool) -> None:
        if not self.journal.close(entry, failed=failed):
            return
        self._energy.forget(entry.id)
        self.continuity.end(entry, last)
        if entry.turn is not None:
            entry.turn.end()
        self.lines.let_next_suspect_go(entry, over=True)
        if not (entry.settling or entry.parked):
            self._leave_admission(entry)
        self._note_fewer()

    def _note_fewer(self) -> None:
        self.lines.note_fewer()
        if not len(self.journal):
            self.idle_since_s = self._clock()
            self._empty.set()

    def _leave_admission(self, entry: Entry) -> None:
        self.admission.leave(entry)
        self._start_waiting()


def _those_that_wait_first(entries: list[Entry]) -> list[Entry]:
    """Or one that ends next would be sent to the engine in the place of one that has ended."""
    return sorted(entries, key=lambda one: one.forwarded)


def in_use(client_id: int) -> Error:
    """No other error may bear the id: that would be the end of the request that has it."""
    return Error(
        ErrorCode.DUPLICATE_ID,
        f"request {client_id} is still running on this connection: choose another id",
        id=client_id,
    )


def _cancelled_here(entry: Entry, now: float) -> Finished:
    """A request that is cancelled while no engine has it."""
    so_far, received_s = entry.so_far, entry.request.received_s
    started_s = so_far.started_s or now
    first_s = so_far.first_token_s or now
    return Finished(
        request_id=entry.id,
        finish_reason="cancelled",
        prompt_tokens=so_far.prompt_tokens,
        cached_tokens=so_far.cached_tokens,
        completion_tokens=entry.produced,
        queue_s=started_s - received_s,
        prefill_s=first_s - started_s,
        ttft_s=first_s - received_s,
        decode_s=so_far.last_token_s - so_far.first_token_s,
        itl_p50_s=0.0,
        itl_max_s=0.0,
        seed=entry.request.sampling.seed,
    )


def _with_seed(message: Submitted, seed: int) -> Submitted:
    """As it came, but that another engine or front would choose the same tokens."""
    if not isinstance(message, Chat | Complete):
        return message
    return replace(message, generation=replace(message.generation, seed=seed))


def _poison(client_id: int) -> Error:
    return Error(
        ErrorCode.POISON_REQUEST,
        "the engine died twice over this very request within the last minutes; change the prompt, "
        "or report it with `qwenctl logs`",
        id=client_id,
    )
