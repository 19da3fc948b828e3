"""The engine: requests in, events out, one step at a time.

Owns the life of a request from `submit` to its one Finished or Failed. Knows nothing of processes,
sockets or the host; the clock and the backend come in as arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qwend.engine.answer import Release, extend_answer, flush_answer
from qwend.engine.backend import Backend, DecodeFailed
from qwend.engine.batch import Batch
from qwend.engine.events import (
    Event,
    Failed,
    Finished,
    Gauges,
    Prefilling,
    Produced,
    Queued,
    Started,
)
from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.prompt import prompt_tokens, reasoning_splitter
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.scheduler import Scheduler
from qwend.engine.sequence import Sequence, State, Times
from qwend.engine.speed import SpeedMeter
from qwend.engine.step_cost import StepCost
from qwend.errors import QwendError, RequestError


@dataclass(frozen=True, slots=True)
class EngineSettings:
    itl_budget_s: float = 0.120
    prefix_bytes: int = 256 << 20


class Engine:
    """One per process and model. `step` until it returns nothing to do, then wait for messages."""

    def __init__(
        self,
        backend: Backend,
        cost: StepCost,
        settings: EngineSettings,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._cost = cost
        self._clock = clock
        self.prefix_cache = PrefixCache(settings.prefix_bytes)
        self.scheduler = Scheduler(backend, self.prefix_cache, cost, settings.itl_budget_s)
        self.speed = SpeedMeter()
        self._steps = 0
        self._events: list[Event] = []
        self._arrived: list[Sequence] = []  # since the last step
        self._ended: list[Sequence] = []  # told to the front, not taken out yet

    @property
    def idle(self) -> bool:
        return self.scheduler.idle and not (self._events or self._arrived or self._ended)

    def submit(self, request: EngineRequest) -> None:
        """Take a request: its events come with the next step. Never raises for a bad request."""
        try:
            prompt = prompt_tokens(request, self._backend)
            if request.kind is Kind.TOKENIZE:
                self._events.append(self._tokenized(request, prompt))
                return
            sequence = self._sequence(request, prompt)
        except QwendError as error:
            self._events.append(Failed(request.id, error.code, str(error)))
            return
        self.scheduler.add(sequence)
        self._arrived.append(sequence)

    def cancel(self, request_id: int) -> None:
        """End a request wherever it is. One that is already over stays as it ended."""
        sequence = self.scheduler.find(request_id)
        if sequence is not None:
            self._finish(sequence, "cancelled")
            self._settle()

    def grant(self, request_id: int, tokens: int) -> None:
        """Allow the request to produce that many tokens more."""
        sequence = self.scheduler.find(request_id)
        if sequence is not None:
            sequence.credit += tokens

    def step(self) -> list[Event]:
        """Schedule, decode, sample, emit. Returns everything that happened since the last step."""
        settled = self._settle()
        self._admit()
        batch = self.scheduler.schedule()
        if batch is not None and self._decode(batch):
            self._sample(batch)
            self._report_prefill()
        self._finish_prefilled()
        return self._emit(changed=settled)

    def _settle(self) -> bool:
        """Take out what has ended; True if there was something.

        A step late on purpose: keeping a prefix takes 2 ms for 80 tokens, and the last token of
        the answer is not to wait for that.
        """
        ended, self._ended = self._ended, []
        for sequence in ended:
            self.scheduler.remove(sequence, keep_prefix=True)
        return bool(ended)

    def _admit(self) -> None:
        for sequence in self.scheduler.admit(self._clock()):
            self._events.append(Started(sequence.id, len(sequence.prompt), sequence.cached))
        for ahead, sequence in enumerate(self.scheduler.waiting):
            if sequence in self._arrived:
                self._events.append(Queued(sequence.id, ahead))
        self._arrived.clear()

    def _decode(self, batch: Batch) -> bool:
        begin = self._clock()
        try:
            self._backend.decode(batch)
        except DecodeFailed as error:
            self._fail_rows(batch, error)
            return False
        elapsed = self._clock() - begin
        self._steps += 1
        self._cost.observe(len(batch), elapsed)
        self.speed.step(len(batch), len(batch.sampled_rows), elapsed)
        return True

    def _sample(self, batch: Batch) -> None:
        owners = self.scheduler.commit(batch)
        for output, sequence in zip(batch.sampled_rows, owners, strict=True):
            if sequence.sampler is None:
                sequence.sampler = self._backend.open_sampler(
                    sequence.request.sampling, sequence.prompt
                )
            token = sequence.sampler.sample(output)
            self._take_token(sequence, token)

    def _take_token(self, sequence: Sequence, token: int) -> None:
        now = self._clock()
        sequence.times.token(now)
        if self._backend.ends_answer(token) and not sequence.request.sampling.ignore_eos:
            self._finish(sequence, "stop")
            return
        self._release(sequence, extend_answer(sequence, token, self._backend.token_bytes(token)))
        if sequence.stop.matched is not None:
            self._finish(sequence, "stop_string")
        elif len(sequence.answer) >= sequence.max_tokens:
            self._finish(sequence, "length")

    def _release(self, sequence: Sequence, release: Release | None) -> None:
        if release is not None:
            # Credit is spent when ids go out: were it spent on sampling, tokens held back for a
            # stop string could use up a small credit and wait for ever for the next grant.
            sequence.credit -= len(release.ids)
            self._events.append(
                Produced(
                    sequence.id,
                    release.index,
                    release.ids,
                    release.text,
                    sequence.times.last_token,
                    release.reasoning,
                )
            )

    def _finish(self, sequence: Sequence, reason: str) -> None:
        if reason in ("stop", "length"):
            self._release(sequence, flush_answer(sequence))
            if sequence.stop.matched is not None:
                reason = "stop_string"
        sequence.finish_reason = reason
        self._events.append(sequence.finished_event())
        sequence.state = State.FINISHED
        self._ended.append(sequence)

    def _finish_prefilled(self) -> None:
        for sequence in self.scheduler.running:
            if sequence.prefilled:
                self._finish(sequence, "prefilled")

    def _report_prefill(self) -> None:
        for sequence in self.scheduler.running:
            if sequence.remaining_prefill:
                self._events.append(
                    Prefilling(sequence.id, sequence.computed, len(sequence.prompt))
                )

    def _fail_rows(self, batch: Batch, error: DecodeFailed) -> None:
        """The batch did not go in. Give up as little as possible: the youngest, if room is all
        that is missing; otherwise everyone in the batch, for any of them may be the cause."""
        seq_ids = {row.seq_id for row in batch.rows}
        involved = [one for one in self.scheduler.running if one.seq_id in seq_ids]
        for sequence in involved[-1:] if error.retry_smaller else involved:
            self._events.append(Failed(sequence.id, error.code, str(error)))
            self.scheduler.remove(sequence, keep_prefix=False)

    def _emit(self, *, changed: bool) -> list[Event]:
        events, self._events = self._events, []
        scheduler = self.scheduler
        if events or changed:
            events.append(
                Gauges(
                    step=self._steps,
                    running=len(scheduler.running),
                    waiting=len(scheduler.waiting),
                    used_cells=scheduler.used_cells,
                    prefix_bytes=self.prefix_cache.used_bytes,
                    decode_tok_s=self.speed.decode_tok_s,
                    prefill_tok_s=self.speed.prefill_tok_s,
                )
            )
        return events

    def _sequence(self, request: EngineRequest, prompt: list[int]) -> Sequence:
        facts = self._backend.facts
        limit = min(facts.cells, facts.train_context)
        room = limit - len(prompt)
        if not prompt:
            raise RequestError("the prompt is empty: give at least one token of text")
        if room < (1 if request.kind is not Kind.PREFILL else 0):
            raise RequestError(
                f"the prompt is {len(prompt)} tokens and the context holds {limit}, of which at "
                "least one must be left for the answer: shorten the prompt, or raise "
                "`context` under [model] if the model allows it",
                code="context_exceeded",
            )
        max_tokens = 0 if request.kind is Kind.PREFILL else min(request.max_tokens, room)
        return Sequence(
            request=request,
            prompt=tuple(prompt),
            max_tokens=max_tokens,
            times=Times(request.received_s),
            credit=request.credit,
            reasoning=reasoning_splitter(request, facts),
        )

    def _tokenized(self, request: EngineRequest, tokens: list[int]) -> Finished:
        sequence = Sequence(request, (), 0, Times(request.received_s), credit=0)
        sequence.finish_reason = "tokenized"
        return sequence.finished_event(tokens)

    def check_integrity(self) -> None:
        """Raise EngineBug if the accounting is wrong; for tests, after every operation."""
        self.prefix_cache.check_integrity()
        self.scheduler.check_integrity()
