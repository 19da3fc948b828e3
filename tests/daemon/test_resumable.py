"""An answer that nobody reads waits for its reader, but not for ever."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from qwend.daemon.broker import Broker
from qwend.daemon.kept_log import KeptLog
from qwend.daemon.kept_requests import KeptRequests
from qwend.daemon.resumable import ENDS_PER_UID, KEPT_S, PARKED_PER_UID, PIECE_CHARS, missing
from qwend.engine.events import Produced, Started
from qwend.engine.request import EngineRequest
from qwend.wire.messages import DaemonMessage
from qwend.wire.replies import Accepted, Done, Token
from qwend.wire.resume import Resume
from tests.daemon.fakes import (
    FakeEngine,
    FakeOwner,
    FakeTimers,
    complete,
    config_with,
    entry_of,
    finished,
)

KEY = "a key of mine"


@pytest.fixture
def timers() -> FakeTimers:
    return FakeTimers()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def broker(timers: FakeTimers, engine: FakeEngine) -> Broker:
    broker = Broker(config_with(), timers.clock, timers.call_later)
    broker.lines.attach(engine)
    return broker


def begun(broker: Broker, engine: FakeEngine, owner: FakeOwner) -> int:
    broker.submit(owner, complete(4, resume=KEY))
    request_id = engine.submitted[-1]
    broker.handle([Started(request_id, 5, 2, 100.5), Produced(request_id, 0, (7,), "xy", 101.0)])
    return request_id


def resume(tokens: int, text_chars: int, client_id: int = 9) -> Resume:
    return Resume(client_id, KEY, tokens, text_chars)


def test_a_disconnect_stops_the_work_and_keeps_the_answer(
    broker: Broker, engine: FakeEngine
) -> None:
    owner, back = FakeOwner(), FakeOwner()
    request_id = begun(broker, engine, owner)
    broker.drop(owner)
    assert engine.cancelled == [request_id]
    broker.handle([finished(request_id, "cancelled")])  # what the engine still says of it
    assert len(broker.journal) == 1
    broker.continuity.take_up(back, resume(0, 1))
    assert back.messages == [Accepted(9, 5, 2), Token(9, 0, (7,), "y")]
    again = EngineRequest.from_map(engine.messages[-1]["request"])
    assert again.id != request_id
    assert again.continuation is not None
    assert again.continuation.tokens == (7,)
    broker.handle([Produced(again.id, 1, (8,), "z", 102.0), finished(again.id)])
    assert back.messages[-2] == Token(9, 1, (8,), "z")
    assert back.done_of(9).finish_reason == "stop"
    assert len(broker.journal) == 0


def test_after_a_minute_nobody_is_waited_for(
    broker: Broker, engine: FakeEngine, timers: FakeTimers
) -> None:
    owner, back = FakeOwner(), FakeOwner()
    begun(broker, engine, owner)
    broker.drop(owner)
    timers.advance(KEPT_S)
    assert len(broker.journal) == 0
    broker.continuity.take_up(back, resume(0, 0))
    assert back.error_of(9).code == "unknown_request"


def test_another_user_with_the_key_gets_nothing(broker: Broker, engine: FakeEngine) -> None:
    thief = FakeOwner(uid=1001)
    begun(broker, engine, FakeOwner(uid=1000))
    broker.continuity.take_up(thief, resume(0, 0))
    assert thief.error_of(9).code == "unknown_request"
    assert len(thief.messages) == 1


def test_the_end_can_be_heard_again_for_a_minute(
    broker: Broker, engine: FakeEngine, timers: FakeTimers
) -> None:
    request_id = begun(broker, engine, FakeOwner())
    broker.handle([finished(request_id)])
    back = FakeOwner()
    broker.continuity.take_up(back, resume(1, 2))
    assert [type(one) for one in back.messages] == [Accepted, Done]
    timers.advance(KEPT_S)
    late = FakeOwner()
    broker.continuity.take_up(late, resume(1, 2))
    assert late.error_of(9).code == "unknown_request"


def test_of_many_ends_the_oldest_are_forgotten(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    for number in range(ENDS_PER_UID + 1):
        broker.submit(owner, complete(number, resume=f"{KEY} {number}"))
        broker.handle([finished(engine.submitted[-1])])
    back = FakeOwner()
    for number in (0, 1, ENDS_PER_UID):
        broker.continuity.take_up(back, Resume(number, f"{KEY} {number}", 0, 0))
    assert back.error_of(0).code == "unknown_request"
    assert back.done_of(1).finish_reason == back.done_of(ENDS_PER_UID).finish_reason == "stop"


def test_of_many_that_wait_the_oldest_are_given_up(broker: Broker, engine: FakeEngine) -> None:
    for number in range(PARKED_PER_UID + 1):
        owner = FakeOwner()
        broker.submit(owner, complete(4, resume=f"{KEY} {number}"))
        broker.drop(owner)
    assert len(broker.journal) == PARKED_PER_UID
    back = FakeOwner()
    broker.continuity.take_up(back, Resume(0, f"{KEY} 0", 0, 0))
    assert back.error_of(0).code == "unknown_request"
    broker.continuity.take_up(back, Resume(1, f"{KEY} 1", 0, 0))
    assert back.ends_of(1) == []


def test_one_that_was_cancelled_is_not_waited_for(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    begun(broker, engine, owner)
    broker.cancel(owner, 4)
    broker.drop(owner)
    assert len(broker.journal) == 0


def test_while_it_waits_it_takes_no_place(broker: Broker, engine: FakeEngine) -> None:
    owner = FakeOwner()
    begun(broker, engine, owner)
    broker.drop(owner)
    assert broker.admission.of_each_uid().get(owner.uid, (0, 0)) == (0, 0)


def test_a_deadline_holds_while_nobody_reads(
    broker: Broker, engine: FakeEngine, timers: FakeTimers
) -> None:
    owner, back = FakeOwner(), FakeOwner()
    broker.submit(owner, complete(4, resume=KEY, deadline_s=5.0))
    broker.drop(owner)
    timers.advance(5.0)
    broker.continuity.take_up(back, resume(0, 0))
    assert back.error_of(9).code == "deadline_exceeded"


def test_more_than_was_said_cannot_have_been_received(broker: Broker, engine: FakeEngine) -> None:
    back = FakeOwner()
    begun(broker, engine, FakeOwner())
    broker.continuity.take_up(back, resume(2, 0))
    assert back.error_of(9).code == "unknown_request"


def test_a_long_rest_comes_in_pieces_that_fit_a_frame() -> None:
    entry = entry_of(FakeOwner())
    text = "é" * (2 * PIECE_CHARS + 10)
    entry.so_far.extend(Produced(1, 0, (1, 2, 3), text, 1.0, "a" * (PIECE_CHARS + 1)))
    pieces = list(missing(entry, Resume(9, KEY, 1, 5, 2)))
    assert "".join(one.text for one in pieces) == text[5:]
    assert "".join(one.reasoning for one in pieces) == "a" * (PIECE_CHARS - 1)
    assert [one.ids for one in pieces if one.ids] == [(2, 3)]
    assert {one.index for one in pieces} == {1}
    assert max(len(one.text) + len(one.reasoning) for one in pieces) <= 2 * PIECE_CHARS


def test_tokens_that_were_lost_with_their_connection_are_noted_with_the_next() -> None:
    """They were on the way to the old connection, so nothing was noted of them there."""
    log = KeptLog.create()
    timers, engine = FakeTimers(), FakeEngine()
    kept = KeptRequests(log)
    broker = Broker(config_with(), timers.clock, timers.call_later, kept=kept)
    broker.lines.attach(engine)
    owner, back = DeafOwner(page=3), FakeOwner(page=4)
    begun(broker, engine, owner)
    broker.drop(owner)
    broker.continuity.take_up(back, resume(0, 0))
    for late in owner.thens:  # what the old one still had to note
        late()
    again = KeptLog.open(os.dup(log.fd))
    assert again is not None
    left = KeptRequests(again).left_on(4, 1000)[9]
    assert (list(left.so_far.tokens), left.so_far.content) == ([7], "xy")
    kept.close()


def test_it_can_be_had_before_all_that_an_earlier_front_has_left_is_reopened() -> None:
    """Asked for over a connection that was taken over, while others still are to be."""
    log = KeptLog.create()
    timers, engine = FakeTimers(), FakeEngine()
    broker = Broker(config_with(), timers.clock, timers.call_later, kept=KeptRequests(log))
    broker.lines.attach(engine)
    owner = FakeOwner(page=3)
    begun(broker, engine, owner)
    broker.drop(owner)
    left = KeptLog.open(os.dup(log.fd))
    assert left is not None
    following = Broker(config_with(), timers.clock, timers.call_later, kept=KeptRequests(left))
    following.lines.attach(second := FakeEngine())
    back, thief = FakeOwner(page=4), FakeOwner(uid=1001, page=5)
    following.continuity.take_up(thief, resume(0, 0))
    assert thief.error_of(9).code == "unknown_request"
    following.continuity.take_up(back, resume(0, 1))
    assert back.messages == [Accepted(9, 5, 2), Token(9, 0, (7,), "y")]
    following.continuity.reopen_parked()
    assert len(second.submitted) == 1
    assert len(following.journal) == 1


@dataclass(eq=False)
class DeafOwner(FakeOwner):
    """Its connection is lost before anything of this is written."""

    thens: list[Callable[[], None]] = field(default_factory=list)

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        if then is not None:
            self.thens.append(then)
