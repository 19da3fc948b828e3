"""The engine under any order of requests of both priorities, typing ahead, drafts and time.

1. Requests of three uids and both priorities, of few texts, so that prefixes, openings and turns
   coincide; drafts that are sometimes wrong; cells and sequence ids for two or three of them.
2. After every operation the accounting is right, and the model's own cells are what it says.
3. At the end everyone gets credit and the engine runs until it is idle, within a bound.
Expected: every request is started at most once and ends exactly once, not for want of room; what
it says is what it says alone, in order and once; nothing is reused across uids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from qwend.engine.batch import Batch
from qwend.engine.events import Event, Finished, Gauges, Prefilling, Produced, Started
from qwend.engine.prefix_tree import common_prefix
from qwend.engine.prompt import prompt_tokens
from qwend.engine.request import PUBLIC_UID, EngineRequest, Kind, Priority, SamplingParams
from qwend.engine.scheduler import Scheduler
from qwend.engine.step_cost import StepCost
from tests.support.drafters import KnowsTheAnswer
from tests.support.engine import (
    Clock,
    RecordingBackend,
    answer,
    ask,
    check_cells,
    check_empty,
    engine_over,
    user,
)

pytestmark = pytest.mark.row("F7")

# Of the larger requests (up to 150 cells) one fits, of the others two or three; each fits alone.
CELLS = 160
# All requests of one run need far less steps than this, each of them alone after the others.
BOUND = 4_000

HEADS = st.sampled_from((0, 17, 25, 33))
TAILS = st.sampled_from(("", "a", "ab", "ababab", "b" * 20))
TEXTS = st.builds(
    lambda head, tail: "the same old beginning of it all "[:head] + tail, HEADS, TAILS
)
# Typed ahead, and then asked: few enough that the chat finds its opening.
TYPED = st.sampled_from(("what is typed at leisure", "what is typed at leisure, and on", "a"))


def asked(request: EngineRequest) -> tuple[int, ...]:
    return tuple(prompt_tokens(request, RecordingBackend()))


@cache
def scripted_answer(prompt: tuple[int, ...]) -> tuple[int, ...]:
    backend = RecordingBackend()
    backend.cells[0] = list(prompt)
    return tuple(backend.answer_to(0))


def open_drafter(prompt: Sequence[int]) -> KnowsTheAnswer:
    """Right for most of the answer, and sure of it: its drafts are all taken up."""
    said = scripted_answer(tuple(prompt))
    return KnowsTheAnswer(said * 100, lambda at: (at + len(prompt)) % 4 != 3)


class BoundedBackend(RecordingBackend):
    """Never has more in its cells than the scheduler has reserved, drafts included."""

    scheduler: Scheduler

    def decode(self, batch: Batch) -> None:
        super().decode(batch)
        assert self.used_cells <= self.scheduler.reserved_cells


@dataclass(slots=True)
class Told:
    """What the engine has told of one request, and what it may."""

    request: EngineRequest
    prompt: tuple[int, ...]
    credit: int
    ids: list[int] = field(default_factory=list)
    text: str = ""
    starts: int = 0
    finished: Finished | None = None
    cancelled: bool = False
    overdrawn: bool = False

    def take(self, event: Event) -> None:
        assert self.finished is None, f"{event} after the end"
        match event:
            case Started():
                self.starts += 1
                assert self.starts == 1
            case Prefilling():
                assert self.starts
                assert not self.ids, "progress comes before the first token"
            case Produced():
                assert self.starts
                assert event.index == len(self.ids), "a gap, or a repetition"
                # What was held back for a stop string goes out with the end in any case.
                assert not self.overdrawn, "nothing goes out without credit"
                self.overdrawn = len(self.ids) >= self.credit
                self.ids += event.ids
                self.text += event.text
            case Finished():
                self.finished = event

    def check(self, expected: Finished, ids: tuple[int, ...], text: str) -> None:
        end = self.finished
        assert end is not None, "it waits for ever"
        if end.finish_reason == "cancelled":
            assert self.cancelled
            assert tuple(self.ids) == ids[: len(self.ids)]
            assert text.startswith(self.text)
            return
        assert (tuple(self.ids), self.text) == (ids, text)
        assert end.finish_reason == expected.finish_reason
        assert end.prompt_tokens == len(self.prompt)
        assert end.completion_tokens == expected.completion_tokens


@cache
def alone(request: EngineRequest, *, can_trim: bool) -> tuple[Finished, tuple[int, ...], str]:
    """What becomes of it with the machine to itself, and without drafts."""
    backend = RecordingBackend(cells=CELLS, can_trim=can_trim)
    engine = engine_over(backend, open_drafter=None)
    said = answer(engine, replace(request, credit=1 << 30, partial=False))
    if not request.stop and request.kind is not Kind.PREFILL:
        script = scripted_answer(asked(request))
        assert said.ids == (script * 100 or said.ids)[: len(said.ids)]
    return said.finished, said.ids, said.text


class Machine(RuleBasedStateMachine):
    requests: Bundle[int] = Bundle("requests")
    can_trim = True
    prefix_bytes = 400

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.backend = BoundedBackend(
            cells=CELLS, batch_rows=22, sequences=3, outputs=6, can_trim=self.can_trim
        )
        self.engine = engine_over(
            self.backend,
            cost=StepCost({1: 0.010, 22: 0.012}, all_sampled={1: 0.010, 22: 0.013}),
            itl_budget_s=0.030,
            prefix_bytes=self.prefix_bytes,
            clock=self.clock,
            open_drafter=open_drafter,
        )
        self.backend.scheduler = self.engine.scheduler
        self.ids = count(1)
        self.told: dict[int, Told] = {}

    @rule(
        target=requests,
        kind=st.sampled_from((Kind.CHAT, Kind.COMPLETE, Kind.PREFILL)),
        text=TEXTS,
        uid=st.sampled_from((PUBLIC_UID, 1, 2)),
        priority=st.sampled_from(Priority),
        max_tokens=st.sampled_from((1, 5, 20, 40, 90)),
        credit=st.sampled_from((0, 1, 3, 1_000)),
        stop=st.sampled_from(((), ("ababX",), ("ba", "l t"), ("old bX", "it"))),
        ignore_eos=st.booleans(),
    )
    def submit(
        self,
        kind: Kind,
        text: str,
        uid: int,
        priority: Priority,
        max_tokens: int,
        credit: int,
        stop: tuple[str, ...],
        ignore_eos: bool,
    ) -> int:
        return self._submit(
            ask(
                user(text) if kind is Kind.CHAT else text or "x",
                kind=kind,
                uid=uid,
                priority=priority,
                max_tokens=max_tokens,
                credit=credit,
                stop=stop,
                sampling=SamplingParams(temperature=0.0, ignore_eos=ignore_eos),
            )
        )

    @rule(target=requests, text=TYPED, uid=st.sampled_from((1, 2)))
    def type_ahead(self, text: str, uid: int) -> int:
        return self._submit(ask(user(text), kind=Kind.PREFILL, uid=uid, partial=True))

    @rule(
        target=requests,
        text=TYPED,
        uid=st.sampled_from((1, 2)),
        credit=st.sampled_from((0, 1, 1_000)),
        max_tokens=st.sampled_from((1, 30)),
    )
    def press_enter(self, text: str, uid: int, credit: int, max_tokens: int) -> int:
        return self._submit(ask(user(text), uid=uid, credit=credit, max_tokens=max_tokens))

    @rule(
        target=requests,
        text=TEXTS,
        uid=st.sampled_from((1, 2)),
        max_tokens=st.sampled_from((60, 80)),
        steps=st.integers(1, 6),
    )
    def work_in_the_background(self, text: str, uid: int, max_tokens: int, steps: int) -> int:
        """What gives way: it takes many cells for many steps."""
        request = ask(
            user(text),
            uid=uid,
            priority=Priority.BACKGROUND,
            max_tokens=max_tokens,
            sampling=SamplingParams(temperature=0.0, ignore_eos=True),
        )
        request_id = self._submit(request)
        self.step(steps)
        return request_id

    def _submit(self, request: EngineRequest) -> int:
        request = replace(request, id=next(self.ids), received_s=self.clock.now)
        self.told[request.id] = Told(request, asked(request), request.credit)
        self.engine.submit(request)
        return request.id

    @rule(request_id=requests)
    def cancel(self, request_id: int) -> None:
        self.told[request_id].cancelled = True
        self.engine.cancel(request_id)

    @rule(request_id=requests, tokens=st.sampled_from((1, 4, 30)))
    def grant(self, request_id: int, tokens: int) -> None:
        self.told[request_id].credit += tokens
        self.engine.grant(request_id, tokens)

    @rule(times=st.integers(1, 8))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.read(self.engine.step())
            self.accounting_is_right()

    @rule(seconds=st.sampled_from((0.5, 4.0, 11.0)))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    def read(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, Gauges):
                request_id: int = getattr(event, "request_id")  # noqa: B009
                self.told[request_id].take(event)
        assert all(told.finished for told in self.told.values() if told.overdrawn)

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
        for request_id, told in self.told.items():
            told.credit += 1_000
            self.engine.grant(request_id, 1_000)
        for _ in range(BOUND):
            if self.engine.idle:
                break
            self.read(self.engine.step())
            self.accounting_is_right()
        assert self.engine.idle
        for told in self.told.values():
            told.check(*alone(replace(told.request, id=0), can_trim=self.can_trim))
            self.check_reuse(told)
        check_empty(self.engine, self.backend)
        assert self.backend.open_samplers == 0

    def check_reuse(self, told: Told) -> None:
        """What it had from the cache stood in requests that it may know of."""
        visible = [
            (*other.prompt, *other.ids)
            for other in self.told.values()
            if other is not told and other.request.uid in (told.request.uid, PUBLIC_UID)
        ]
        assert told.finished is not None
        most = max((common_prefix(one, told.prompt) for one in visible), default=0)
        assert told.finished.cached_tokens <= most


class MachineWithoutMemory(Machine):
    """No copies are kept: what was preempted is computed again."""

    prefix_bytes = 0


class MachineWithoutTrim(Machine):
    """Recurrent memory: no drafts, no joining, whole copies only, and checkpoints."""

    can_trim = False
    prefix_bytes = 1_000


Machine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
MachineWithoutMemory.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
MachineWithoutTrim.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None
)
TestMachine = Machine.TestCase
TestMachineWithoutMemory = MachineWithoutMemory.TestCase
TestMachineWithoutTrim = MachineWithoutTrim.TestCase
