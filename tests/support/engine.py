"""What the engine's tests share: requests, a clock that is set by hand, and a run to the end.

Knows the scripted backend only; what needs llama.cpp is in `tiny_model.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from qwend.engine.backend import Backend
from qwend.engine.batch import Batch
from qwend.engine.drafting import OpenDrafter, PromptLookup
from qwend.engine.engine import Engine, EngineSettings
from qwend.engine.events import Event, Failed, Finished, Gauges, Prefilling, Produced, Started
from qwend.engine.request import ChatTurn, EngineRequest, Kind, SamplingParams
from qwend.engine.scripted import Script, ScriptedBackend, ScriptedSampler
from qwend.engine.step_cost import StepCost

# A run that takes more steps than this hangs: no test here needs a tenth of it.
MOST_STEPS = 5_000
_request_ids = count(1)


@dataclass(slots=True)
class Clock:
    """A monotonic clock that only moves when it is told to, or by `per_call_s` at each reading."""

    now: float = 100.0
    per_call_s: float = 0.0

    def __call__(self) -> float:
        self.now += self.per_call_s
        return self.now


class CountedSampler(ScriptedSampler):
    closed = False

    def close(self) -> None:
        super().close()
        self.closed = True


class RecordingBackend(ScriptedBackend):
    """The scripted backend, remembering what went through it."""

    def __init__(self, script: Script | None = None, **settings: Any) -> None:
        super().__init__(script or Script(), **settings)
        self.batches: list[Batch] = []
        self.shared: list[tuple[int, int, int]] = []
        self.restored: list[int] = []
        self.saved = 0
        self.samplers: list[CountedSampler] = []

    def decode(self, batch: Batch) -> None:
        super().decode(batch)
        self.batches.append(batch)

    def open_sampler(
        self, params: SamplingParams, prompt: tuple[int, ...], answer: tuple[int, ...] = ()
    ) -> CountedSampler:
        self.samplers.append(CountedSampler(self, params, len(answer)))
        return self.samplers[-1]

    @property
    def open_samplers(self) -> int:
        return sum(not one.closed for one in self.samplers)

    def share(self, source: int, target: int, count: int) -> None:
        super().share(source, target, count)
        self.shared.append((source, target, count))

    def save(self, seq_id: int) -> bytes:
        self.saved += 1
        return super().save(seq_id)

    def restore(self, seq_id: int, blob: bytes) -> bool:
        self.restored.append(seq_id)
        return super().restore(seq_id, blob)


def ask(
    prompt: str | Sequence[int] | Sequence[ChatTurn] = "hello",
    *,
    kind: Kind | None = None,
    uid: int = 1000,
    id: int | None = None,
    **fields: Any,
) -> EngineRequest:
    """A request: text and token ids complete, turns chat, unless `kind` says otherwise."""
    request = EngineRequest(
        id=next(_request_ids) if id is None else id,
        kind=Kind.COMPLETE if kind is None else kind,
        uid=uid,
        received_s=100.0,
        sampling=fields.pop("sampling", SamplingParams(temperature=0.0)),
        **fields,
    )
    if isinstance(prompt, str):
        return replace(request, text=prompt)
    turns = tuple(turn for turn in prompt if isinstance(turn, ChatTurn))
    if turns:
        return replace(request, turns=turns, kind=Kind.CHAT if kind is None else kind)
    return replace(request, tokens=tuple(one for one in prompt if isinstance(one, int)))


def user(content: str) -> tuple[ChatTurn, ...]:
    return (ChatTurn("user", content),)


def engine_over(
    backend: Backend,
    *,
    cost: StepCost | None = None,
    itl_budget_s: float = 0.120,
    prefix_bytes: int = 1 << 20,
    clock: Callable[[], float] | None = None,
    open_drafter: OpenDrafter | None = PromptLookup,
) -> Engine:
    """Prefix cache of 1 MiB by default; steps cost nothing unless `cost` says otherwise."""
    return Engine(
        backend,
        cost or StepCost({1: 1e-9}),
        EngineSettings(itl_budget_s, prefix_bytes),
        clock or Clock(),
        open_drafter=open_drafter,
    )


@dataclass(slots=True)
class Transcript:
    """What the engine told about one request, and the text it makes."""

    events: list[Event] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.events if isinstance(one, Produced))

    @property
    def reasoning(self) -> str:
        return "".join(one.reasoning for one in self.events if isinstance(one, Produced))

    @property
    def ids(self) -> tuple[int, ...]:
        return sum((one.ids for one in self.events if isinstance(one, Produced)), ())

    @property
    def started(self) -> Started:
        return next(one for one in self.events if isinstance(one, Started))

    @property
    def end(self) -> Finished | Failed:
        ends = [one for one in self.events if isinstance(one, Finished | Failed)]
        assert len(ends) == 1, f"a request ends exactly once, not {len(ends)} times"
        return ends[0]

    @property
    def finished(self) -> Finished:
        end = self.end
        assert isinstance(end, Finished), end
        return end

    @property
    def failed(self) -> Failed:
        end = self.end
        assert isinstance(end, Failed), end
        return end


def by_request(events: Sequence[Event]) -> dict[int, Transcript]:
    transcripts: dict[int, Transcript] = {}
    for event in events:
        request_id = getattr(event, "request_id", None)
        if request_id is not None:
            transcripts.setdefault(request_id, Transcript()).events.append(event)
    return transcripts


def run(engine: Engine, *requests: EngineRequest) -> list[Event]:
    """Submit, then step until the engine is idle; all events but the gauges."""
    events: list[Event] = []
    for request in requests:
        engine.submit(request)
    for _ in range(MOST_STEPS):
        if engine.idle:
            return [event for event in events if not isinstance(event, Gauges)]
        events += engine.step()
        engine.check_integrity()
    raise AssertionError(f"the engine is not idle after {MOST_STEPS} steps")


def answer(engine: Engine, request: EngineRequest) -> Transcript:
    """What becomes of this one request."""
    return by_request(run(engine, request))[request.id]


def check_contiguous(transcript: Transcript) -> None:
    """Each Produced begins at the index where the one before it ended, from 0."""
    expected = 0
    for event in transcript.events:
        if isinstance(event, Produced):
            assert event.index == expected
            expected += len(event.ids)


def check_cells(engine: Engine, backend: ScriptedBackend) -> None:
    """The cells of each sequence hold what the scheduler believes, and of all others nothing."""
    assert backend.used_cells == engine.scheduler.used_cells
    assert backend.used_cells <= backend.facts.cells
    believed = {one.seq_id: list(one.tokens[: one.computed]) for one in engine.scheduler.running}
    assert {seq_id: cells for seq_id, cells in backend.cells.items() if cells} == {
        seq_id: tokens for seq_id, tokens in believed.items() if tokens
    }
    engine.check_integrity()


def check_empty(engine: Engine, backend: ScriptedBackend) -> None:
    """Nothing runs, so every cell is empty and every seq_id is free."""
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting
    check_cells(engine, backend)


def prefill_progress(transcript: Transcript) -> list[tuple[int, int]]:
    return [(one.done, one.total) for one in transcript.events if isinstance(one, Prefilling)]
