"""Whatever happens in whatever order: every accepted request ends in exactly one message.

The engine of the model is as the real one: it makes no token without credit, ends what it is told
to cancel, may still be talking of requests that have ended here, and loses everything at a death.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qwend.daemon.broker import Broker
from qwend.daemon.resolve import Submitted
from qwend.engine.events import Event, Failed, Produced, Started
from qwend.engine.request import Priority
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error
from qwend.wire.prompt import ChatMessage
from qwend.wire.replies import Done, Token
from qwend.wire.requests import Prefill, Tokenize
from tests.daemon.fakes import FakeOwner, FakeTimers, complete, config_with, finished

RUNNING, QUEUED = 2, 2
REFUSALS = {"busy", "duplicate_id", "shutting_down", "poison_request"}


@dataclass(eq=False)
class Asked:
    """One accepted request as its owner sees it."""

    allowance: int | None
    tokens: int = 0
    ends: int = 0


@dataclass
class Work:
    """One request as the engine sees it."""

    uid: int
    priority: str
    credit: int
    index: int = 0


@dataclass
class ModelEngine:
    """Takes the front's messages at once; what it says comes when the machine lets it."""

    broker: Broker
    working: dict[int, Work] = field(default_factory=dict)
    said: list[Event] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)

    def __call__(self, message: dict[str, Any]) -> None:
        match message["do"]:
            case "submit":
                request = message["request"]
                assert request["id"] not in self.seen, "handed to one engine twice"
                self.seen.add(request["id"])
                done = request["continuation"]
                self.working[request["id"]] = Work(
                    request["uid"],
                    request["priority"],
                    request["credit"],
                    len(done["tokens"]) if done else 0,
                )
            case "cancel":
                assert message["id"] in self.seen
                if self.working.pop(message["id"], None):
                    self.said.append(finished(message["id"], "cancelled"))
            case "grant":
                assert message["id"] in self.seen
                assert message["tokens"] > 0
                entry = self.broker.journal.find(message["id"])
                assert entry is not None, "a grant for a request that has ended"
                assert not entry.owner.congested
                if message["id"] in self.working:
                    self.working[message["id"]].credit += message["tokens"]


class BrokerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.timers = FakeTimers()
        config = config_with(running_per_uid=RUNNING, queued_per_uid=QUEUED, queued=3)
        self.broker = Broker(config, self.timers.clock, self.timers.call_later)
        self.engine: ModelEngine | None = None
        self.owners = [FakeOwner(1), FakeOwner(1), FakeOwner(2)]
        self.open: dict[tuple[FakeOwner, int], Asked] = {}
        self.over: list[Asked] = []
        self.refusing = False

    owner_numbers = st.integers(0, 2)
    client_ids = st.integers(0, 3)

    @rule(
        number=owner_numbers,
        client_id=client_ids,
        kind=st.sampled_from(("complete", "prefill", "tokenize")),
        credit=st.sampled_from((None, 0, 3, 100)),
        deadline_s=st.sampled_from((None, 5.0)),
    )
    def submit(
        self, number: int, client_id: int, kind: str, credit: int | None, deadline_s: float | None
    ) -> None:
        owner = self.owners[number]
        self.owners_hear_of_open_requests_alone()
        message: Submitted = complete(client_id, credit=credit, deadline_s=deadline_s)
        if kind == "prefill":
            message = Prefill(client_id, messages=(ChatMessage("user", "hello"),))
        elif kind == "tokenize":
            message = Tokenize(client_id, "hello")
        before = self.broker.journal.accepted
        self.broker.submit(owner, message)
        if self.broker.journal.accepted > before:
            assert (owner, client_id) not in self.open
            assert not self.refusing
            self.open[owner, client_id] = Asked(credit if kind == "complete" else None)
        else:
            (refusal,) = owner.messages
            assert isinstance(refusal, Error)
            assert refusal.id == client_id
            assert refusal.code in REFUSALS
            assert (refusal.code == "busy") == (refusal.retry_after_s is not None)
            # No other code may bear the id of a request that goes on.
            assert (refusal.code == "duplicate_id") == ((owner, client_id) in self.open)
            assert refusal.code in ("duplicate_id", "shutting_down") or not self.refusing
            owner.messages.clear()

    @rule(number=owner_numbers)
    def submit_some(self, number: int) -> None:
        """More than may run at once; one at a time they seldom come to be that many."""
        for client_id in range(4):
            self.submit(number, client_id, "complete", None, None)

    @rule(number=owner_numbers, client_id=client_ids)
    def cancel(self, number: int, client_id: int) -> None:
        self.broker.cancel(self.owners[number], client_id)

    @rule(number=owner_numbers, client_id=client_ids, tokens=st.integers(1, 200))
    def allow(self, number: int, client_id: int, tokens: int) -> None:
        asked = self.open.get((self.owners[number], client_id))
        if asked is not None and asked.allowance is not None:
            asked.allowance += tokens
        self.broker.allow(self.owners[number], client_id, tokens)

    @rule(number=owner_numbers)
    def congest(self, number: int) -> None:
        self.owners[number].congested = True

    @rule(number=owner_numbers)
    def read_again(self, number: int) -> None:
        self.owners[number].congested = False
        self.broker.resume(self.owners[number])

    @rule(number=owner_numbers)
    def disconnect(self, number: int) -> None:
        gone = self.owners[number]
        self.broker.drop(gone)
        assert not gone.messages, "there is nobody to tell"
        assert not self.broker.journal.of_owner(gone)
        self.over += [asked for key, asked in self.open.items() if key[0] is gone]
        self.open = {key: asked for key, asked in self.open.items() if key[0] is not gone}
        self.owners[number] = FakeOwner(gone.uid)

    @rule(number=owner_numbers)
    def too_slow(self, number: int) -> None:
        self.broker.fail_all(self.owners[number], ErrorCode.SLOW_CONSUMER, "too slow")

    @rule(seconds=st.sampled_from((1.0, 4.0)))
    def time_goes_on(self, seconds: float) -> None:
        self.timers.advance(seconds)

    @precondition(lambda self: self.engine is not None and self.engine.working)
    @rule(data=st.data(), tokens=st.integers(1, 80))
    def engine_works(self, data: st.DataObject, tokens: int) -> None:
        assert self.engine is not None
        request_id = data.draw(st.sampled_from(sorted(self.engine.working)))
        work = self.engine.working[request_id]
        if not work.index:
            self.engine.said.append(Started(request_id, 5, 0, 100.5))
        made = min(tokens, work.credit)
        if made:
            ids = tuple(range(made))
            self.engine.said.append(Produced(request_id, work.index, ids, "x" * made, 1.0))
            work.index += made
            work.credit -= made

    @precondition(lambda self: self.engine is not None and self.engine.working)
    @rule(data=st.data(), well=st.booleans())
    def engine_ends_one(self, data: st.DataObject, well: bool) -> None:
        assert self.engine is not None
        request_id = data.draw(st.sampled_from(sorted(self.engine.working)))
        del self.engine.working[request_id]
        failed = Failed(request_id, "model_error", "refused")
        self.engine.said.append(finished(request_id) if well else failed)

    @precondition(lambda self: self.engine is not None and self.engine.said)
    @rule()
    def engine_speaks(self) -> None:
        assert self.engine is not None
        said, self.engine.said = self.engine.said, []
        self.broker.handle(said)

    @precondition(lambda self: self.engine is not None)
    @rule()
    def engine_dies(self) -> None:
        self.engine = None
        self.broker.lines.lost("killed")

    @initialize()
    def first_engine(self) -> None:
        self.engine_is_ready()

    @precondition(lambda self: self.engine is None)
    @rule()
    def engine_is_ready(self) -> None:
        self.engine = ModelEngine(self.broker)
        self.broker.lines.attach(self.engine)

    @precondition(lambda self: not self.refusing)
    @rule(sure=st.integers(0, 3))
    def refuse(self, sure: int) -> None:
        if sure == 3:  # seldom: after it not much happens
            self.refusing = True
            self.broker.refuse(ErrorCode.SHUTTING_DOWN, "stopping")

    def owners_hear_of_open_requests_alone(self) -> None:
        for owner in self.owners:
            for message in owner.messages:
                asked = self.open[owner, getattr(message, "id")]  # noqa: B009
                if isinstance(message, Token):
                    assert message.index == asked.tokens
                    asked.tokens += len(message.ids)
                    assert asked.allowance is None or asked.tokens <= asked.allowance
                if isinstance(message, Done | Error):
                    asked.ends += 1
                    self.over.append(self.open.pop((owner, message.id or 0)))
            owner.messages.clear()

    @invariant()
    def journal_and_owners_agree(self) -> None:
        self.owners_hear_of_open_requests_alone()
        journal = self.broker.journal
        open_here = {(entry.owner, entry.client_id) for entry in journal}
        assert open_here == set(self.open)
        assert journal.accepted == journal.done + journal.failed + len(journal)

    @invariant()
    def the_engine_has_no_more_of_a_uid_than_it_may(self) -> None:
        if self.engine is not None:
            kinds = [(work.uid, work.priority) for work in self.engine.working.values()]
            assert all(kinds.count(one) <= RUNNING for one in kinds)

    @invariant()
    def whoever_waits_waits_for_one_that_runs(self) -> None:
        for entry in self.broker.journal:
            if not entry.forwarded:
                uid, priority = entry.owner.uid, entry.request.priority
                same = [one for one in self.broker.journal if one.owner.uid == uid]
                if priority is Priority.INTERACTIVE:
                    same = [one for one in same if one.request.priority is priority]
                assert sum(one.forwarded for one in same) >= RUNNING

    def teardown(self) -> None:
        """With a willing engine everything comes to its end."""
        if self.engine is None:
            self.engine_is_ready()
        assert self.engine is not None
        for _ in range(20):
            for request_id in list(self.engine.working):
                del self.engine.working[request_id]
                self.engine.said.append(finished(request_id))
            self.engine_speaks()
            self.owners_hear_of_open_requests_alone()
        assert not self.open
        assert len(self.broker.journal) == 0
        assert self.broker.waiting == 0
        assert all(asked.ends <= 1 for asked in self.over)
        assert len(self.over) == self.broker.journal.accepted
        asyncio.run(asyncio.wait_for(self.broker.emptied(), 1.0))


BrokerMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestBrokerMachine = BrokerMachine.TestCase
