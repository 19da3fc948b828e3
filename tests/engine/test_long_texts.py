"""A long text is tokenized between the steps of others, and holds nobody up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from qwend.engine.batch import Batch
from qwend.engine.engine import TEXT_ALONE_S, TEXT_SHARE, Engine
from qwend.engine.events import Event, Failed, Finished, Gauges, Produced, Queued, Started
from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import ChatTurn, EngineRequest, Kind
from qwend.engine.scripted import PART_CHARS, Script
from qwend.engine.template import ChatFormat
from qwend.engine.texts import SHORT
from tests.support.engine import (
    Clock,
    RecordingBackend,
    ask,
    by_request,
    check_empty,
    engine_over,
    run,
)

pytestmark = pytest.mark.row("A6")
PARTS = 30
LONG = "x" * (PARTS * PART_CHARS)
PART_S, STEP_S = 1 / 1024, 4 / 1024  # which floats add up exactly
ENDLESS = Script(endless=True)


class Timed(RecordingBackend):
    """Each part of a text and each step takes its time, and is noted."""

    def __init__(self, clock: Clock, script: Script = ENDLESS) -> None:
        super().__init__(script, cells=100_000, sequences=8)
        self.clock = clock
        self.done: list[str] = []

    def tokenize_parts(self, text: str, parse_special: bool) -> Iterator[list[int]]:
        for part in super().tokenize_parts(text, parse_special):
            self.clock.now += PART_S
            self.done.append(text[:1])
            yield part

    def decode(self, batch: Batch) -> None:
        super().decode(batch)
        self.clock.now += STEP_S
        self.done.append("step")


def begun(script: Script = ENDLESS) -> tuple[Engine, Timed]:
    clock = Clock()
    backend = Timed(clock, script)
    return engine_over(backend, clock=clock, open_drafter=None), backend


def tokenize(text: str = LONG, uid: int = 1001) -> EngineRequest:
    return ask(text, kind=Kind.TOKENIZE, uid=uid)


def stream(engine: Engine) -> EngineRequest:
    """One that decodes."""
    request = ask("hello", max_tokens=10_000)
    engine.submit(request)
    while not any(isinstance(event, Produced) for event in engine.step()):
        pass
    return request


def until_over(engine: Engine, request: EngineRequest) -> list[Event]:
    events: list[Event] = []
    ends = (Finished, Failed)
    while not any(isinstance(one, ends) and one.request_id == request.id for one in events):
        events += engine.step()
    return events


def test_who_decodes_waits_for_no_more_than_a_share_of_a_step() -> None:
    engine, backend = begun()
    stream(engine)
    for _ in range(4):
        engine.submit(tokenize())
    backend.done.clear()
    while engine._texts:
        engine.step()
    at = [index for index, what in enumerate(backend.done) if what == "step"]
    between = {after - before - 1 for before, after in pairwise(at)}
    assert max(between) == TEXT_SHARE * STEP_S / PART_S
    assert len(at) >= 4 * PARTS / max(between)


def test_a_stream_beside_long_texts_says_what_it_says_alone() -> None:
    said = []
    for company in (0, 3):
        engine, _ = begun(Script(answer="a story that is not short at all " * 5))
        request = ask("tell me", max_tokens=150)
        others = [tokenize() for _ in range(company)]
        transcripts = by_request(run(engine, request, *others))
        said.append(transcripts[request.id].text)
        assert all(len(transcripts[one.id].finished.tokens or ()) == len(LONG) for one in others)
    assert said[0] == said[1]


def test_alone_it_takes_no_longer_than_messages_may_wait() -> None:
    engine, backend = begun()
    engine.submit(tokenize())
    before = backend.clock.now
    engine.step()
    assert backend.clock.now - before <= TEXT_ALONE_S + PART_S
    assert 0 < len(backend.done) < PARTS
    assert not engine.idle


def test_the_ids_are_those_of_the_whole_however_many_steps_it_took() -> None:
    engine, backend = begun()
    stream(engine)
    text = "".join(Random(1).choices("abcdefgh \n", k=len(LONG)))
    request = tokenize(text)
    engine.submit(request)
    assert by_request(until_over(engine, request))[request.id].finished.tokens == tuple(
        backend.tokenize(text, False)
    )


def test_a_prompt_that_was_long_to_tokenize_is_answered() -> None:
    engine, _ = begun(Script())
    request = ask(LONG[:10_000], max_tokens=5)
    other = tokenize()
    transcripts = by_request(run(engine, request, other))
    assert transcripts[request.id].text == "xxxxx"
    kinds = [type(event) for event in transcripts[request.id].events]
    assert kinds.index(Started) < kinds.index(Produced)


def test_another_users_text_is_not_tokenized_behind_long_ones() -> None:
    engine, backend = begun()
    for _ in range(8):
        engine.submit(tokenize())
    engine.submit(tokenize("y" * (PART_CHARS + 1), uid=1002))
    while "y" not in backend.done[:-1] or backend.done.count("y") < 2:
        engine.step()
    assert backend.done.index("y") == 1
    assert len(backend.done) < PARTS


def test_a_users_own_short_text_is_not_tokenized_behind_its_long_ones() -> None:
    engine, backend = begun()
    long, short = tokenize(), tokenize("y" * (SHORT + 1))
    engine.submit(long)
    engine.submit(short)
    until_over(engine, short)
    assert len(backend.done) < PARTS
    assert len(by_request(until_over(engine, long))) == 1


def test_one_that_is_cancelled_while_it_waits_ends_once_and_is_tokenized_no_further() -> None:
    engine, backend = begun()
    request = ask(LONG)
    engine.submit(request)
    engine.step()
    engine.cancel(request.id)
    engine.cancel(request.id)
    done = len(backend.done)
    events = run(engine)
    end = by_request(events)[request.id].finished
    assert (end.finish_reason, end.prompt_tokens, end.completion_tokens) == ("cancelled", 0, 0)
    assert len(backend.done) == done
    check_empty(engine, backend)


def test_what_is_granted_while_it_waits_counts() -> None:
    engine, _ = begun(Script(answer="abcdefgh"))
    request = ask(LONG[:20_000], credit=0)
    other = tokenize()
    engine.submit(request)
    engine.submit(other)
    engine.grant(request.id, 3)
    engine.grant(request.id, 2)
    assert by_request(run(engine))[request.id].text == "abcde"


@pytest.mark.parametrize("kind", [Kind.COMPLETE, Kind.TOKENIZE])
def test_one_that_turns_out_too_long_fails_once_and_alone(kind: Kind) -> None:
    engine, backend = begun()
    one, other = replace(ask("x" * 400_000), kind=kind), tokenize("y" * 5_000)
    transcripts = by_request(run(engine, one, other))
    assert "more than" in transcripts[one.id].failed.message
    assert len(transcripts[other.id].finished.tokens or ()) == 5_000
    check_empty(engine, backend)


def test_the_opening_of_an_answer_is_found_without_tokenizing_the_prompt_again() -> None:
    clock = Clock()
    backend = Timed(clock, Script(thinks=True))
    object.__setattr__(backend.facts, "can_trim", False)
    form = ChatFormat(True, thinks_by_default=True, opens_reasoning=True)
    object.__setattr__(backend.facts, "chat_format", form)
    engine = engine_over(backend, clock=clock)
    request = ask([ChatTurn("user", "x" * (3 * PART_CHARS))], max_tokens=1)
    engine.submit(request)
    until_over(engine, request)
    assert backend.done.count("x") == 3
    assert engine.scheduler.running[0].checkpoint == len(prompt_tokens(request, backend)) - len(
        "Sassistant\n<think>\n"
    )


def test_after_any_order_of_texts_cancels_and_steps_each_has_ended_once() -> None:
    draw = Random(8)
    for _ in range(10):
        engine, backend = begun(Script())
        events: list[Event] = []
        requests: list[EngineRequest] = []
        for _ in range(draw.randrange(5, 40)):
            match draw.randrange(4):
                case 0 | 1:
                    text = "x" * draw.choice((1, SHORT, SHORT + 1, PART_CHARS, 3 * PART_CHARS))
                    kind = draw.choice((Kind.TOKENIZE, Kind.COMPLETE, Kind.PREFILL))
                    requests.append(
                        ask(text, kind=kind, uid=draw.randrange(3), max_tokens=4, credit=2)
                    )
                    engine.submit(requests[-1])
                    engine.grant(requests[-1].id, 10)
                case 2 if requests:
                    engine.cancel(draw.choice(requests).id)
                case _:
                    events += engine.step()
                    engine.check_integrity()
        events += run(engine)
        ends = Counter(one.request_id for one in events if isinstance(one, Finished | Failed))
        assert ends == Counter(request.id for request in requests)
        check_empty(engine, backend)


def test_it_is_no_part_of_the_queue_before_it_is_tokenized() -> None:
    engine, _ = begun()
    request = ask(LONG)
    engine.submit(request)
    told = engine.step()
    assert not any(isinstance(one, Queued | Started) for one in told)
    assert all(one.waiting == 0 for one in told if isinstance(one, Gauges))
