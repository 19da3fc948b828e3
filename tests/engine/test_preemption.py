"""Interactive requests do not wait for background ones, which lose nothing by it but time.

1. Background requests hold the cells or the sequence ids.
2. An interactive one comes that does not fit beside them.
3. It starts at once; they go on later.
Expected: each says exactly what it says alone, ids in order and once, and is started once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qwend.engine.engine import Engine
from qwend.engine.events import Event, Gauges, Prefilling, Produced, Queued, Started
from qwend.engine.request import EngineRequest, Kind, Priority
from qwend.engine.scripted import Script
from qwend.engine.sequence import State
from qwend.engine.waiting import BACKGROUND_PATIENCE_S
from tests.support.drafters import cheap_rows, knowing
from tests.support.engine import (
    Clock,
    RecordingBackend,
    Transcript,
    answer,
    ask,
    by_request,
    check_cells,
    check_contiguous,
    check_empty,
    engine_over,
)

ANSWER = "a long answer that takes its time and is worth waiting for"
PROMPT = "the prompt of the background request"


def backend_of(**settings: Any) -> RecordingBackend:
    return RecordingBackend(Script(answer=ANSWER), **settings)


def background(text: str = PROMPT, **fields: Any) -> EngineRequest:
    return ask(text, priority=Priority.BACKGROUND, **({"max_tokens": 100, "uid": 1} | fields))


def chat(text: str = "hello", **fields: Any) -> EngineRequest:
    return ask(text, **({"max_tokens": 20, "uid": 2} | fields))


def step(engine: Engine, backend: RecordingBackend, times: int = 1) -> list[Event]:
    events: list[Event] = []
    for _ in range(times):
        events += engine.step()
        check_cells(engine, backend)
    return [event for event in events if not isinstance(event, Gauges)]


def to_the_end(engine: Engine, backend: RecordingBackend) -> list[Event]:
    events: list[Event] = []
    for _ in range(2_000):
        if engine.idle:
            return events
        events += step(engine, backend)
    raise AssertionError("somebody waits for ever")


def check_as_alone(said: Transcript, request: EngineRequest, **settings: Any) -> None:
    """Exactly what it says with the machine to itself."""
    alone = answer(engine_over(backend_of(**settings)), replace(request, credit=1 << 20))
    assert (said.ids, said.text) == (alone.ids, alone.text)
    assert said.finished.finish_reason == alone.finished.finish_reason
    check_contiguous(said)
    assert sum(isinstance(event, Started) for event in said.events) == 1
    first = next(at for at, event in enumerate(said.events) if isinstance(event, Produced))
    assert not any(isinstance(event, Prefilling | Started) for event in said.events[first:])


# By cells: 36 + 100 - 1 of 180 are the background's, and 5 + 60 - 1 are wanted.
BY_CELLS = {"cells": 180, "sequences": 4}
BY_IDS = {"cells": 1_000, "sequences": 1}


@pytest.mark.parametrize("prefix_bytes", [1 << 20, 60, 0])
@pytest.mark.parametrize("settings", [BY_CELLS, BY_IDS], ids=["cells", "ids"])
@pytest.mark.parametrize("steps", [1, 2, 5, 30])
def test_an_interactive_request_starts_at_once_and_the_other_goes_on_later(
    steps: int, settings: dict[str, Any], prefix_bytes: int
) -> None:
    backend = backend_of(**settings)
    engine = engine_over(backend, prefix_bytes=prefix_bytes)
    slow, quick = background(), chat(max_tokens=60)
    engine.submit(slow)
    events = step(engine, backend, steps)
    engine.submit(quick)
    now = step(engine, backend)
    assert any(isinstance(event, Produced) for event in by_request(now)[quick.id].events)
    assert slow.id not in by_request(now)
    assert [one.id for one in engine.scheduler.waiting] == [slow.id]
    events += now + to_the_end(engine, backend)
    said = by_request(events)
    for request in (slow, quick):
        check_as_alone(said[request.id], request, **settings)
    check_empty(engine, backend)
    # Its sampler was kept, so that its random numbers and penalties go on.
    assert (len(backend.samplers), backend.open_samplers) == (2, 0)
    assert said[slow.id].finished.cached_tokens == 0
    if prefix_bytes > 60:
        assert backend.restored


@pytest.mark.parametrize("prefix_bytes", [1 << 20, 0])
@pytest.mark.parametrize("steps", [1, 2])
def test_one_in_the_middle_of_its_prefill_goes_on_later(steps: int, prefix_bytes: int) -> None:
    settings = {**BY_IDS, "batch_rows": 16}
    backend = backend_of(**settings)
    engine = engine_over(backend, prefix_bytes=prefix_bytes)
    slow, quick = background(), chat()
    engine.submit(slow)
    events = step(engine, backend, steps)
    engine.submit(quick)
    events += step(engine, backend)
    assert engine.scheduler.running[0].id == quick.id
    events += to_the_end(engine, backend)
    said = by_request(events)[slow.id]
    check_as_alone(said, slow, **settings)
    assert said.finished.cached_tokens == said.started.cached_tokens == 0
    rows = sum(len(batch) for batch in backend.batches)
    alone = len(PROMPT) + len(ANSWER) + len("hello") + 19
    again = 0 if prefix_bytes else 16 * steps
    assert rows == alone + again


def test_a_prefill_in_the_background_is_preempted_and_finished_later() -> None:
    backend = backend_of(cells=1_000, sequences=1, batch_rows=16)
    engine = engine_over(backend)
    slow, quick = background(kind=Kind.PREFILL), chat()
    engine.submit(slow)
    events = step(engine, backend)
    engine.submit(quick)
    events += to_the_end(engine, backend)
    said = by_request(events)
    assert said[slow.id].finished.finish_reason == "prefilled"
    assert sum(isinstance(event, Started) for event in said[slow.id].events) == 1
    check_empty(engine, backend)


def test_one_that_is_preempted_again_and_again_still_says_it_all() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend)
    slow = background()
    engine.submit(slow)
    events = step(engine, backend, 2)
    for _ in range(8):
        engine.submit(chat(max_tokens=2))
        events += step(engine, backend, 6)
    events += to_the_end(engine, backend)
    check_as_alone(by_request(events)[slow.id], slow, **BY_IDS)
    assert len(backend.restored) >= 5


def test_with_drafts_it_goes_on_as_it_would_alone() -> None:
    backend = backend_of(cells=1_000, sequences=1, outputs=8)
    engine = engine_over(
        backend,
        cost=cheap_rows(),
        open_drafter=knowing(tuple(ANSWER.encode()), lambda at: at % 3 != 1),
    )
    slow, quick = background(), chat()
    engine.submit(slow)
    events = step(engine, backend, 4)
    engine.submit(quick)
    events += to_the_end(engine, backend)
    said = by_request(events)
    for request in (slow, quick):
        check_as_alone(said[request.id], request, **BY_IDS)


@pytest.mark.parametrize("credit", [1, 3])
def test_one_that_waits_for_credit_is_preempted_and_goes_on_when_it_has_some(credit: int) -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend)
    slow, quick = background(credit=credit), chat()
    engine.submit(slow)
    events = to_the_end(engine, backend)
    engine.submit(quick)
    events += to_the_end(engine, backend)
    said = by_request(events)
    assert said[quick.id].text == ANSWER[:20]
    assert said[slow.id].text == ANSWER[:credit]
    engine.grant(slow.id, 1_000)
    events += to_the_end(engine, backend)
    check_as_alone(by_request(events)[slow.id], slow, **BY_IDS)


def test_a_grant_while_it_waits_in_the_queue_counts() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend)
    slow, quick = background(credit=2), chat()
    engine.submit(slow)
    events = to_the_end(engine, backend)
    engine.submit(quick)
    events += step(engine, backend)
    engine.grant(slow.id, 1_000)
    events += to_the_end(engine, backend)
    check_as_alone(by_request(events)[slow.id], slow, **BY_IDS)


def test_cancelling_one_that_was_preempted_closes_its_sampler() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend)
    slow, quick = background(), chat()
    engine.submit(slow)
    events = step(engine, backend, 5)
    engine.submit(quick)
    events += step(engine, backend)
    assert backend.open_samplers == 2
    engine.cancel(slow.id)
    assert [one.closed for one in backend.samplers] == [True, False]
    events += to_the_end(engine, backend)
    said = by_request(events)
    assert (said[slow.id].finished.finish_reason, said[slow.id].text) == ("cancelled", ANSWER[:5])
    assert said[quick.id].text == ANSWER[:20]
    assert backend.open_samplers == 0
    check_empty(engine, backend)


# Who gives way to whom


def test_the_youngest_gives_way_first_and_no_more_than_must() -> None:
    backend = backend_of(cells=1_000, sequences=3)
    engine = engine_over(backend, clock=(clock := Clock()))
    requests = [background(f"{number} {PROMPT}", uid=number) for number in range(3)]
    for request in requests:
        engine.submit(request)
        step(engine, backend)
        clock.now += 1.0
    engine.submit(quick := chat(uid=9))
    step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [
        requests[0].id,
        requests[1].id,
        quick.id,
    ]
    assert [one.id for one in engine.scheduler.waiting] == [requests[2].id]


def test_a_request_that_fits_preempts_nobody() -> None:
    backend = backend_of(cells=1_000, sequences=2)
    engine = engine_over(backend)
    engine.submit(slow := background())
    step(engine, backend, 3)
    engine.submit(quick := chat())
    step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [slow.id, quick.id]


def test_interactive_requests_are_never_preempted() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend)
    engine.submit(first := chat("first", max_tokens=50))
    step(engine, backend, 3)
    engine.submit(second := chat("second"))
    events = step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [first.id]
    assert Queued(second.id, 0) in events


def test_background_does_not_preempt_background() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend)
    engine.submit(first := background())
    step(engine, backend, 3)
    engine.submit(background("another"))
    step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [first.id]


def test_nobody_is_preempted_where_it_would_not_help() -> None:
    # 70 cells are a chat's that stays, 60 the background's, and 100 of 150 are wanted.
    backend = backend_of(cells=150, sequences=4)
    engine = engine_over(backend)
    stays, slow, large = (
        chat("x" * 40, max_tokens=31),
        background("y" * 30, max_tokens=31),
        chat("z" * 70, max_tokens=31, uid=3),
    )
    engine.submit(stays)
    engine.submit(slow)
    step(engine, backend, 2)
    engine.submit(large)
    step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [stays.id, slow.id]
    assert not engine.idle
    said = by_request(to_the_end(engine, backend))
    assert said[large.id].text == ANSWER[:31]


def test_room_is_judged_with_shared_cells_counted_once() -> None:
    # 1. Two chats of 79 cells have 59 in common: 99 of 160 are theirs.
    # 2. 45 are the background's, and 50 are wanted: enough once it has gone.
    backend = backend_of(cells=160, sequences=4)
    engine = engine_over(backend)
    chats = [chat("x" * 60, max_tokens=20) for _ in range(2)]
    slow = background("y" * 36, max_tokens=10)
    for request in (*chats, slow):
        engine.submit(request)
        step(engine, backend)
    assert len(engine.scheduler.running) == 3
    engine.submit(quick := chat("z" * 31, max_tokens=20, uid=5))
    step(engine, backend)
    assert quick.id in [one.id for one in engine.scheduler.running]
    assert [one.id for one in engine.scheduler.waiting] == [slow.id]


def test_background_gives_way_however_long_it_has_run() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend, clock=(clock := Clock()))
    engine.submit(first := background(max_tokens=200))
    step(engine, backend)
    clock.now += 10 * BACKGROUND_PATIENCE_S
    engine.submit(quick := replace(chat(), received_s=clock.now))
    step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [quick.id]
    assert [one.id for one in engine.scheduler.waiting] == [first.id]


def test_background_that_has_waited_long_enough_preempts_and_is_not_preempted() -> None:
    backend = backend_of(**BY_IDS)
    engine = engine_over(backend, clock=(clock := Clock()))
    engine.submit(first := background(max_tokens=200))
    step(engine, backend)
    engine.submit(second := replace(background("second"), received_s=clock.now))
    clock.now += BACKGROUND_PATIENCE_S
    engine.submit(quick := replace(chat(), received_s=clock.now))
    step(engine, backend)
    assert [one.id for one in engine.scheduler.running] == [second.id]
    assert [one.id for one in engine.scheduler.waiting] == [quick.id, first.id]


def test_a_leader_that_gives_way_leaves_what_it_has_to_who_waits_for_it() -> None:
    # The follower is interactive and of the same uid, the one that wants the room of another.
    backend = backend_of(cells=330, sequences=4, batch_rows=16)
    engine = engine_over(backend, prefix_bytes=0)
    text = "p" * 80
    slow, follower = background(text, max_tokens=100, uid=2), chat(text + "!", max_tokens=40)
    engine.submit(slow)
    events = step(engine, backend, 2)
    engine.submit(follower)
    events += step(engine, backend)
    assert engine.scheduler.running[1].joins
    engine.submit(large := chat("l" * 150, max_tokens=20, uid=7))
    events += step(engine, backend)
    assert slow.id in [one.id for one in engine.scheduler.waiting]
    events += to_the_end(engine, backend)
    said = by_request(events)
    for request in (slow, follower, large):
        check_as_alone(said[request.id], request, cells=400)
    assert said[follower.id].finished.cached_tokens >= 48


def test_a_preempted_one_says_nothing_more_of_its_prefill_after_the_first_token() -> None:
    backend = backend_of(cells=1_000, sequences=1, batch_rows=8)
    engine = engine_over(backend, prefix_bytes=0)
    engine.submit(slow := background())
    events = step(engine, backend, 10)
    assert engine.scheduler.running[0].state is State.DECODE
    engine.submit(chat(max_tokens=2))
    events += to_the_end(engine, backend)
    check_as_alone(by_request(events)[slow.id], slow, cells=1_000, sequences=1, batch_rows=8)


def test_who_waits_for_credit_does_not_tell_its_progress_again_and_again() -> None:
    backend = backend_of(cells=1_000, sequences=2)
    engine = engine_over(backend)
    paused, stream = ask("x" * 40, credit=0, max_tokens=9, uid=1), ask("y", max_tokens=9, uid=2)
    engine.submit(paused)
    engine.submit(stream)
    told = by_request(to_the_end(engine, backend))[paused.id]
    assert sum(isinstance(event, Prefilling) for event in told.events) == 1
