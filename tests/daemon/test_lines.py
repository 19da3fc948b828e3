"""The broker with two engines: what was begun stays, and the rest goes over the newest line."""

from __future__ import annotations

import asyncio

import pytest

from qwend.daemon.broker import Broker
from qwend.daemon.line import Arrival, Line
from qwend.engine.events import Gauges, Produced, Started
from qwend.wire.codes import ErrorCode
from qwend.wire.replies import Progress
from tests.daemon.fakes import FakeEngine, FakeOwner, FakeTimers, complete, config_with, finished


@pytest.fixture
def broker() -> Broker:
    timers = FakeTimers()
    return Broker(config_with(), timers.clock, timers.call_later)


@pytest.fixture
def old(broker: Broker) -> FakeEngine:
    engine = FakeEngine()
    broker.lines.attach(engine)
    return engine


def begin(broker: Broker, engine: FakeEngine, owner: FakeOwner, client_id: int) -> int:
    """A request that this engine has begun; the id that the engine knows it by."""
    broker.submit(owner, complete(client_id, seed=1))
    request_id = engine.submitted[-1]
    broker.handle(
        [Started(request_id, 5, 2, 100.5), Produced(request_id, 0, (7,), "x", 101.0)],
        broker.lines.current,
    )
    return request_id


def switched(broker: Broker) -> tuple[Line, FakeEngine]:
    """From now on another engine takes what is new; the line of the one before."""
    before, new = broker.lines.current, FakeEngine()
    line = Line("new")
    broker.lines.attach(new, line)
    broker.lines.switch(line)
    return before, new


def test_what_was_begun_goes_on_where_it_was_begun(broker: Broker, old: FakeEngine) -> None:
    owner = FakeOwner()
    begun = begin(broker, old, owner, 1)
    before, new = switched(broker)
    broker.submit(owner, complete(2))
    assert new.submitted != []
    assert begun not in new.submitted
    assert broker.lines.bound_to(before) == 1
    broker.allow(owner, 1, 5)
    broker.cancel(owner, 1)
    assert old.cancelled == [begun]
    assert new.cancelled == []


def test_the_engine_that_it_was_begun_on_may_die_and_only_its_next_goes_on_with_it(
    broker: Broker, old: FakeEngine
) -> None:
    owner = FakeOwner()
    begun = begin(broker, old, owner, 1)
    before, new = switched(broker)
    broker.lines.lost("it died", before)
    assert new.submitted == []
    again = FakeEngine()
    broker.lines.attach(again, before)
    assert again.submitted == [begun]


def test_what_the_engine_that_died_had_not_begun_goes_to_the_new_one(
    broker: Broker, old: FakeEngine
) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(1))
    before, new = switched(broker)
    assert new.submitted == []
    broker.lines.lost("it died", before)
    assert new.submitted == old.submitted


def test_the_death_of_one_engine_is_nothing_to_the_others_requests(
    broker: Broker, old: FakeEngine
) -> None:
    owner = FakeOwner()
    begin(broker, old, owner, 1)
    before, new = switched(broker)
    begin(broker, new, owner, 2)
    broker.lines.lost("it died")
    recovering = [one for one in owner.messages if isinstance(one, Progress)]
    assert [one.id for one in recovering] == [2]
    assert broker.lines.bound_to(before) == 1


def test_what_is_recalled_is_asked_anew_and_ends_once(broker: Broker, old: FakeEngine) -> None:
    owner = FakeOwner()
    begun = begin(broker, old, owner, 1)
    broker.submit(owner, complete(2))
    waiting = old.submitted[-1]
    before, coming = broker.lines.current, Line("new")
    broker.lines.switch(coming)
    broker.lines.recall(before)
    assert old.cancelled == [waiting]
    broker.handle([finished(waiting, "cancelled")], before)
    assert owner.ends_of(2) == []
    new = FakeEngine()
    broker.lines.attach(new, coming)
    assert len(new.submitted) == 1
    assert new.submitted[0] not in (begun, waiting)
    broker.handle([finished(new.submitted[0])], coming)
    assert len(owner.ends_of(2)) == 1


def test_who_waits_is_told_how_far_the_model_is(broker: Broker) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(1))
    broker.lines.arriving(broker.lines.current, Arrival("loading", 40, 100))
    broker.submit(owner, complete(2))
    told = [(one.id, one.done) for one in owner.messages if isinstance(one, Progress)]
    assert told == [(1, 40), (2, 40)]
    engine = FakeEngine()
    broker.lines.attach(engine)
    assert len(engine.submitted) == 2
    assert broker.lines.current.arrival is None


def test_a_sleeping_model_is_woken_once(broker: Broker) -> None:
    woken: list[int] = []
    broker.lines.switch(Line("asleep", wake=lambda: woken.append(1)))
    assert woken == []
    broker.submit(FakeOwner(), complete(1))
    broker.submit(FakeOwner(), complete(1))
    assert woken == [1]


def test_one_line_fails_and_the_other_goes_on(broker: Broker, old: FakeEngine) -> None:
    owner = FakeOwner()
    begin(broker, old, owner, 1)
    before, new = switched(broker)
    begin(broker, new, owner, 2)
    broker.lines.fail(before, ErrorCode.ENGINE_LOST, "it keeps dying")
    assert owner.error_of(1).code == "engine_lost"
    assert owner.ends_of(2) == []
    assert broker.lines.bound_to(before) == 0


def test_gauges_are_those_of_the_engine_that_takes_what_is_new(
    broker: Broker, old: FakeEngine
) -> None:
    before, _ = switched(broker)
    broker.handle([Gauges(9, 1, 0, 9, 0, 50.0, 200.0)], before)
    assert broker.gauges is None
    broker.handle([Gauges(9, 0, 0, 0, 0, 50.0, 200.0)])
    assert broker.gauges is not None
    assert broker.gauges.used_cells == 0


def test_a_line_that_nothing_is_bound_to_any_more_is_noticed(
    broker: Broker, old: FakeEngine
) -> None:
    owner = FakeOwner()

    async def main() -> list[int]:
        for one in (1, 2):
            begin(broker, old, owner, one)
        before, _ = switched(broker)
        left = []
        async for count in broker.lines.fewer_bound_to(before):
            left.append(count)
            broker.handle([finished(old.submitted[2 - count])], before)
        return left

    assert asyncio.run(main()) == [2, 1]
