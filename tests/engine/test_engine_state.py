"""The engine under a random order of submit, cancel, grant and step (F7).

1. Random requests of three uids, some with hostile prompts, small credits, stop strings.
2. After every operation the accounting is right and the cells are what it says.
3. At the end everyone gets credit and the engine runs until it is idle.
Expected: each request ended exactly once, ids contiguous, no token without credit, nothing of a
request after its end, all cells empty and all seq_ids free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from qwend.engine.engine import Engine
from qwend.engine.events import Event, Failed, Finished, Gauges, Produced, Started
from qwend.engine.request import PUBLIC_UID, EngineRequest, Kind, SamplingParams
from qwend.engine.scripted import Script
from qwend.engine.step_cost import StepCost
from tests.support.engine import (
    MOST_STEPS,
    RecordingBackend,
    ask,
    by_request,
    check_cells,
    check_contiguous,
    check_empty,
    engine_over,
    user,
)

pytestmark = pytest.mark.row("F7")

# Beginnings that are shared, so that prefixes are reused, cut and refused.
PROMPTS = st.builds(
    lambda head, tail: "the same old beginning of it all "[:head] + tail,
    st.integers(0, 33),
    st.text("ab", max_size=20),
)
KINDS = st.sampled_from((Kind.CHAT, Kind.COMPLETE, Kind.PREFILL, Kind.TOKENIZE))


@dataclass(slots=True)
class Asked:
    request: EngineRequest
    credit: int
    produced: int = 0
    overdrawn: bool = False
    ended: bool = False


def request_of(event: Event) -> int:
    request_id: int = getattr(event, "request_id")  # noqa: B009
    return request_id


class Operations(RuleBasedStateMachine):
    requests: Bundle[int] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.backend = self.open_backend()
        self.engine: Engine = engine_over(
            self.backend,
            cost=StepCost({1: 0.010, 64: 0.100}),
            itl_budget_s=0.030,
            prefix_bytes=300,
        )
        self.ids = count(1)
        self.asked: dict[int, Asked] = {}
        self.told: list[Event] = []

    def open_backend(self) -> RecordingBackend:
        return RecordingBackend(cells=160, batch_rows=24, sequences=3)

    @rule(
        target=requests,
        kind=KINDS,
        text=PROMPTS,
        uid=st.sampled_from((PUBLIC_UID, 1, 2)),
        max_tokens=st.integers(1, 30),
        credit=st.integers(0, 12),
        stop=st.lists(st.sampled_from(("ab", "abb", "old", "l ")), max_size=2),
        ignore_eos=st.booleans(),
    )
    def submit(
        self,
        kind: Kind,
        text: str,
        uid: int,
        max_tokens: int,
        credit: int,
        stop: list[str],
        ignore_eos: bool,
    ) -> int:
        request = ask(
            user(text) if kind is Kind.CHAT else text,
            kind=kind,
            uid=uid,
            id=next(self.ids),
            max_tokens=max_tokens,
            credit=credit,
            stop=tuple(stop),
            sampling=SamplingParams(temperature=0.0, ignore_eos=ignore_eos),
        )
        self.asked[request.id] = Asked(request, credit)
        self.engine.submit(request)
        return request.id

    @rule(target=requests, tokens=st.lists(st.integers(-2, 300), max_size=170))
    def submit_ids(self, tokens: list[int]) -> int:
        request = ask(tokens, id=next(self.ids), max_tokens=5, credit=3)
        self.asked[request.id] = Asked(request, 3)
        self.engine.submit(request)
        return request.id

    @rule(request_id=requests)
    def cancel(self, request_id: int) -> None:
        self.engine.cancel(request_id)

    @rule(request_id=requests, tokens=st.integers(1, 20))
    def grant(self, request_id: int, tokens: int) -> None:
        self.asked[request_id].credit += tokens
        self.engine.grant(request_id, tokens)

    @rule(times=st.integers(1, 6))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.read(self.engine.step())

    def read(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Gauges):
                continue
            self.told.append(event)
            asked = self.asked[request_of(event)]
            assert not asked.ended, "nothing is told of a request after its end"
            asked.ended = isinstance(event, Finished | Failed)
            if isinstance(event, Produced):
                # Tokens that were held back together go out together: at most a stop string
                # (3 characters here, and 3 bytes of a character) more than was allowed.
                # What is still held at the end goes out with it in any case.
                assert not asked.overdrawn
                asked.overdrawn = asked.produced >= asked.credit
                asked.produced += len(event.ids)
        assert all(asked.ended for asked in self.asked.values() if asked.overdrawn)

    @invariant()
    def accounting_is_right(self) -> None:
        check_cells(self.engine, self.backend)

    @invariant()
    def idle_means_that_a_step_does_nothing(self) -> None:
        if self.engine.idle:
            steps = self.backend.steps
            assert self.engine.step() == []
            assert self.backend.steps == steps

    def teardown(self) -> None:
        for request_id, asked in self.asked.items():
            asked.credit += 1_000
            self.engine.grant(request_id, 1_000)
        for _ in range(MOST_STEPS):
            if self.engine.idle:
                break
            self.read(self.engine.step())
            self.accounting_is_right()
        assert self.engine.idle
        said = by_request(self.told)
        for request_id, asked in self.asked.items():
            transcript = said[request_id]
            assert isinstance(transcript.end, Finished | Failed)
            assert transcript.end is transcript.events[-1]
            check_contiguous(transcript)
            if any(isinstance(event, Produced) for event in transcript.events):
                assert any(isinstance(event, Started) for event in transcript.events)
            assert not any(stop in transcript.text for stop in asked.request.stop)
        check_empty(self.engine, self.backend)


class OperationsWithoutTrim(Operations):
    def open_backend(self) -> RecordingBackend:
        return RecordingBackend(
            Script(answer="never ab"), cells=160, batch_rows=24, sequences=3, can_trim=False
        )


Operations.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
OperationsWithoutTrim.TestCase.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None
)
TestOperations = Operations.TestCase
TestOperationsWithoutTrim = OperationsWithoutTrim.TestCase
