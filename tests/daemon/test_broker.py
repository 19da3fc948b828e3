"""The broker with owners, an engine and timers that are fakes: who is told what, and when."""

from __future__ import annotations

import asyncio

import pytest

from qwend.daemon.broker import Broker
from qwend.daemon.journal import CREDIT_WINDOW
from qwend.engine.continuation import Continuation
from qwend.engine.events import Failed, Gauges, Produced, Queued, Started
from qwend.engine.request import EngineRequest
from qwend.wire import limits
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error
from qwend.wire.prompt import ChatMessage
from qwend.wire.replies import Accepted, Done, Progress, Token
from qwend.wire.requests import Prefill, Tokenize
from qwend.wire.usage import Usage
from tests.daemon.fakes import FakeEngine, FakeOwner, FakeTimers, complete, config_with, finished


@pytest.fixture
def timers() -> FakeTimers:
    return FakeTimers()


@pytest.fixture
def broker(timers: FakeTimers) -> Broker:
    """One request runs for each uid, two wait."""
    config = config_with(running_per_uid=1, queued_per_uid=2, queued=3)
    return Broker(config, timers.clock, timers.call_later)


@pytest.fixture
def engine(broker: Broker) -> FakeEngine:
    engine = FakeEngine()
    broker.lines.attach(engine)
    return engine


def test_a_request_goes_to_the_engine_and_its_answer_to_the_owner(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(4))
    (request_id,) = engine.submitted
    broker.handle(
        [
            Started(request_id, 5, 2, 100.5),
            Produced(request_id, 0, (7,), "x", 1.0),
            finished(request_id),
        ]
    )
    accepted, token, done = owner.messages
    assert accepted == Accepted(4, 5, 2)
    assert token == Token(4, 0, (7,), "x")
    assert isinstance(done, Done)
    assert done.id == 4
    assert len(broker.journal) == 0


@pytest.mark.row("B4")
def test_of_an_owner_that_is_gone_nothing_that_waited_is_sent_to_the_engine(
    broker: Broker, engine: FakeEngine
) -> None:
    owner, other = FakeOwner(1), FakeOwner(1)
    for client_id in (0, 1):
        broker.submit(owner, complete(client_id))
    broker.submit(other, complete(2))
    (first,) = engine.submitted
    broker.drop(owner)
    assert engine.cancelled == [first]
    assert len(engine.submitted) == 2, "and the other's runs in its place"


def test_events_of_two_owners_do_not_cross(broker: Broker, engine: FakeEngine) -> None:
    owners = [FakeOwner(1), FakeOwner(2)]
    for owner in owners:
        broker.submit(owner, complete(0))
    first, second = engine.submitted
    broker.handle([finished(second, "length"), finished(first, "stop")])
    assert [owner.done_of(0).finish_reason for owner in owners] == ["stop", "length"]


def test_what_the_engine_still_says_of_an_ended_request_goes_nowhere(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    (request_id,) = engine.submitted
    broker.handle([finished(request_id)])
    told = len(owner.messages)
    broker.handle([Produced(request_id, 1, (7,), "x", 1.0), finished(request_id)])
    assert len(owner.messages) == told
    assert (broker.journal.done, broker.journal.failed) == (1, 0)


def test_a_failure_of_the_engine_ends_the_request_with_its_code(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.handle([Failed(engine.submitted[0], "context_exceeded", "too long")])
    assert owner.error_of(0) == Error("context_exceeded", "too long", id=0)
    assert broker.journal.failed == 1


def test_too_long_an_answer_to_tokenize_counts_as_failed(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, Tokenize(0, "hello"))
    tokens = (1,) * (limits.ARRAY_ENTRIES + 1)
    broker.handle([finished(engine.submitted[0], "tokenized", tokens=tokens)])
    assert owner.error_of(0).code == "invalid_value"
    assert (broker.journal.done, broker.journal.failed) == (0, 1)


def test_an_id_in_use_is_refused_and_the_first_request_goes_on(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(4))
    broker.submit(owner, complete(4))
    assert owner.error_of(4).code == "duplicate_id"
    assert len(engine.submitted) == 1
    broker.handle([finished(engine.submitted[0])])
    assert [type(end) for end in owner.ends_of(4)] == [Error, Done]
    broker.submit(owner, complete(4))
    assert len(engine.submitted) == 2


def test_what_is_over_the_limit_waits_is_told_so_and_runs_next(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    for client_id in range(3):
        broker.submit(owner, complete(client_id))
    assert len(engine.submitted) == 1
    assert owner.messages == [Progress(1, "queued", 0, 1), Progress(2, "queued", 0, 2)]
    assert broker.waiting == 2
    broker.handle([finished(engine.submitted[0])])
    assert len(engine.submitted) == 2
    assert broker.waiting == 1


def test_a_full_queue_is_busy_and_says_when_to_try_again(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    for client_id in range(4):
        broker.submit(owner, complete(client_id))
    busy = owner.error_of(3)
    assert busy.code == "busy"
    assert busy.retry_after_s is not None
    assert busy.retry_after_s > 0
    assert broker.journal.accepted == 3


def test_the_queue_of_all_together_is_limited_too(broker: Broker, engine: FakeEngine) -> None:
    first, second = FakeOwner(1), FakeOwner(2)
    for owner in (first, second):
        for client_id in range(3):
            broker.submit(owner, complete(client_id))
    assert second.error_of(2).code == "busy"
    assert first.ends_of(2) == []


def test_cancel_at_the_engine_is_answered_by_the_engine(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.cancel(owner, 0)
    assert engine.cancelled == engine.submitted
    assert owner.ends_of(0) == []
    broker.handle([finished(engine.submitted[0], "cancelled")])
    assert owner.done_of(0).finish_reason == "cancelled"


def test_cancel_of_one_that_waits_is_answered_here_and_it_never_runs(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.submit(owner, complete(1))
    broker.cancel(owner, 1)
    assert owner.done_of(1).finish_reason == "cancelled"
    broker.handle([finished(engine.submitted[0])])
    assert len(engine.submitted) == 1


def test_cancel_without_an_engine_is_answered_here(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.lines.lost("gone")
    broker.submit(owner, complete(0))
    broker.cancel(owner, 0)
    assert owner.done_of(0).finish_reason == "cancelled"
    broker.lines.attach(second := FakeEngine())
    assert second.submitted == []


def test_cancel_of_an_unknown_id_says_nothing(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.cancel(owner, 0)
    assert owner.messages == []
    assert engine.messages == []


def test_one_owner_cannot_cancel_for_another(broker: Broker, engine: FakeEngine) -> None:
    broker.submit(FakeOwner(), complete(0))
    broker.cancel(FakeOwner(), 0)
    assert engine.cancelled == []


def test_an_owner_that_goes_takes_its_requests_along_and_is_told_nothing(
    broker: Broker, engine: FakeEngine
) -> None:
    owner, other = FakeOwner(1), FakeOwner(1)
    broker.submit(owner, complete(0))
    broker.submit(owner, complete(1))
    broker.submit(other, complete(0))
    told = len(owner.messages)
    broker.drop(owner)
    assert len(owner.messages) == told
    running, next_one = engine.submitted[0], engine.submitted[-1]
    assert engine.cancelled == [running, *engine.cancelled[1:]]
    assert next_one not in engine.cancelled
    assert [entry.owner for entry in broker.journal] == [other]


def test_a_deadline_ends_the_request_and_its_work(
    broker: Broker, engine: FakeEngine, timers: FakeTimers
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0, deadline_s=5.0))
    broker.handle([Produced(engine.submitted[0], 0, (7, 8), "xy", 1.0)])
    timers.advance(4.9)
    assert owner.ends_of(0) == []
    timers.advance(0.2)
    assert owner.error_of(0).code == "deadline_exceeded"
    assert "2 tokens" in owner.error_of(0).message
    assert engine.cancelled == engine.submitted


def test_a_deadline_counts_while_waiting_and_the_request_never_runs(
    broker: Broker, engine: FakeEngine, timers: FakeTimers
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.submit(owner, complete(1, deadline_s=5.0))
    timers.advance(5.0)
    assert owner.error_of(1).code == "deadline_exceeded"
    broker.handle([finished(engine.submitted[0])])
    assert len(engine.submitted) == 1


def test_a_deadline_after_the_end_does_nothing(
    broker: Broker, engine: FakeEngine, timers: FakeTimers
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0, deadline_s=5.0))
    broker.handle([finished(engine.submitted[0])])
    timers.advance(10.0)
    assert isinstance(owner.end_of(0), Done)


def test_a_lost_engine_ends_nothing_that_ran_or_waited(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    for client_id in range(3):
        broker.submit(owner, complete(client_id))
    broker.lines.lost("killed by SIGSEGV")
    broker.lines.attach(second := FakeEngine())
    for number in range(3):
        assert len(second.submitted) == number + 1
        broker.handle([finished(second.submitted[number])])
        assert isinstance(owner.end_of(number), Done)


def test_the_next_engine_goes_on_where_the_last_one_was(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(4))
    (request_id,) = engine.submitted
    broker.handle([Started(request_id, 5, 2, 100.5), Produced(request_id, 0, (7, 8), "xy", 103.0)])
    broker.lines.lost("killed by SIGSEGV")
    assert owner.messages[-1] == Progress(4, "recovering", 2, 0)
    broker.lines.attach(second := FakeEngine())
    (message,) = second.messages
    request = EngineRequest.from_map(message["request"])
    assert request.id == request_id
    assert request.continuation == Continuation((7, 8), 2, 0, 2, 100.5, 103.0, 103.0)
    assert request.credit == CREDIT_WINDOW - 2
    broker.handle([Queued(request_id, 1), Produced(request_id, 2, (9,), "z", 104.0)])
    assert owner.messages[-2:] == [Progress(4, "recovering", 2, 0), Token(4, 2, (9,), "z")]


def test_what_the_engine_had_only_queued_starts_as_if_nothing_had_happened(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(4))
    broker.handle([Queued(engine.submitted[0], 3)])
    broker.lines.lost("gone")
    broker.lines.attach(second := FakeEngine())
    assert EngineRequest.from_map(second.messages[0]["request"]).continuation is None


def test_cancel_between_two_engines_tells_what_was_made(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(4))
    (request_id,) = engine.submitted
    broker.handle([Started(request_id, 5, 2, 100.5), Produced(request_id, 0, (7, 8), "xy", 103.0)])
    broker.lines.lost("gone")
    broker.cancel(owner, 4)
    done = owner.done_of(4)
    assert (done.finish_reason, done.usage) == ("cancelled", Usage(5, 2, 2))
    broker.lines.attach(second := FakeEngine())
    assert second.messages == []


def test_a_request_that_comes_without_an_engine_runs_with_the_next(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.lines.lost("gone")
    broker.submit(owner, complete(0))
    assert owner.messages == []
    broker.lines.attach(second := FakeEngine())
    assert len(second.submitted) == 1


def test_a_lost_engine_has_no_gauges(broker: Broker, engine: FakeEngine) -> None:
    gauges = Gauges(9, 3, 1, 400, 0, 50.0, 200.0)
    broker.handle([gauges])
    assert broker.gauges == gauges
    broker.lines.lost("gone")
    assert broker.gauges is None


def test_after_refuse_new_requests_end_and_accepted_ones_go_on(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.refuse(ErrorCode.SHUTTING_DOWN, "stopping")
    broker.submit(owner, complete(1))
    assert owner.error_of(1) == Error("shutting_down", "stopping", id=1)
    broker.handle([finished(engine.submitted[0])])
    assert isinstance(owner.end_of(0), Done)


def test_a_refusal_never_bears_the_id_of_a_running_request(
    broker: Broker, engine: FakeEngine
) -> None:
    # An error with that id is the end of that request, and it goes on: only `duplicate_id` says so.
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.refuse(ErrorCode.SHUTTING_DOWN, "stopping")
    broker.submit(owner, complete(0))
    assert owner.error_of(0).code == "duplicate_id"


def test_fail_all_of_one_owner_leaves_the_others(broker: Broker, engine: FakeEngine) -> None:
    slow, other = FakeOwner(1), FakeOwner(2)
    broker.submit(slow, complete(0))
    broker.submit(slow, complete(1))
    broker.submit(other, complete(0))
    broker.fail_all(slow, ErrorCode.SLOW_CONSUMER, "too slow")
    assert [slow.error_of(one).code for one in (0, 1)] == ["slow_consumer"] * 2
    assert other.messages == []
    assert engine.submitted[1] not in engine.cancelled


@pytest.mark.parametrize(("credit", "expected"), [(None, CREDIT_WINDOW), (0, 0), (3, 3), (999, 64)])
def test_the_first_credit_is_the_clients_within_the_window(
    broker: Broker, engine: FakeEngine, credit: int | None, expected: int
) -> None:
    broker.submit(FakeOwner(), complete(0, credit=credit))
    assert engine.messages[0]["request"]["credit"] == expected


def test_credit_goes_on_to_the_engine(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0, credit=0))
    broker.allow(owner, 0, 3)
    assert engine.granted == [(engine.submitted[0], 3)]


def test_credit_given_while_waiting_counts_once_it_runs(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.submit(owner, complete(1, credit=0))
    broker.allow(owner, 1, 3)
    broker.handle([finished(engine.submitted[0])])
    second = engine.submitted[1]
    broker.handle([Started(second, 5, 0, 100.5)])
    assert engine.granted == [(second, 3)]


def test_credit_for_a_request_that_asked_for_none_changes_nothing(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    broker.allow(owner, 0, 1000)
    broker.allow(owner, 9, 1000)
    assert engine.granted == []


def test_grants_stop_while_the_owner_is_congested(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))
    (request_id,) = engine.submitted
    owner.congested = True
    ids = tuple(range(CREDIT_WINDOW))
    broker.handle([Produced(request_id, 0, ids, "x", 1.0)])
    assert engine.granted == []
    owner.congested = False
    broker.resume(owner)
    assert engine.granted == [(request_id, CREDIT_WINDOW)]


def test_a_prefill_has_no_credit_to_give(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    broker.submit(owner, Prefill(0, messages=(ChatMessage("user", "hello"),)))
    broker.handle(
        [Started(engine.submitted[0], 5, 0, 100.5), finished(engine.submitted[0], "prefilled")]
    )
    assert owner.done_of(0).finish_reason == "prefilled"


def test_emptied_returns_once_the_last_request_has_ended(
    broker: Broker, engine: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0))

    async def wait() -> None:
        waiting = asyncio.ensure_future(broker.emptied())
        await asyncio.sleep(0)
        assert not waiting.done()
        broker.handle([finished(engine.submitted[0])])
        await waiting

    asyncio.run(wait())
