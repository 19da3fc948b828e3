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
from qwend.engine.company import Company
from qwend.engine.drafting import OpenDrafter, PromptLookup
from qwend.engine.events import (
    Event,
    Failed,
    Gauges,
    Prefilling,
    Produced,
    Queued,
    Started,
)
from qwend.engine.intake import cancelled, new_sequence, tokenized
from qwend.engine.openings import Openings
from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.prompt import prompt_parts
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.scheduler import Scheduler
from qwend.engine.sequence import Sequence, State
from qwend.engine.speed import SpeedMeter
from qwend.engine.step_cost import StepCost
from qwend.engine.texts import Text, Texts
from qwend.errors import QwendError

# Of the time that the last step took, what may go to texts before the next one: who decodes goes
# on at two thirds of its pace at least, whatever others send.
TEXT_SHARE = 0.5
# Without anybody to hold up: how long a cancel, a ping or another's request waits to be read.
TEXT_ALONE_S = 0.020


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
        *,
        prefix_cache: PrefixCache | None = None,
        company: Company | None = None,
        open_drafter: OpenDrafter | None = PromptLookup,
    ) -> None:
        """prefix_cache: with a disk behind it; without, one in memory by the settings.

        company: who decides how many threads compute; None: always as many as now.
        open_drafter: makes the drafter of an answer from its prompt; None: no speculation.
        """
        self._backend = backend
        self._cost = cost
        self._clock = clock
        self._company = company
        self._open_drafter = open_drafter if backend.facts.can_trim else None
        self._openings = Openings()
        if prefix_cache is None:
            prefix_cache = PrefixCache(settings.prefix_bytes, whole_only=not backend.facts.can_trim)
        self.prefix_cache = prefix_cache
        self.scheduler = Scheduler(backend, self.prefix_cache, cost, settings.itl_budget_s)
        self.speed = SpeedMeter()
        self._steps = 0
        self._events: list[Event] = []
        self._texts = Texts()  # submitted, and not tokenized yet
        self._step_s = 0.0  # of the last decode
        self._arrived: list[Sequence] = []  # since the last step
        self._ended: list[Sequence] = []  # told to the front, not taken out yet
        self._regulated = False  # from outside, and not told yet what came of it

    @property
    def idle(self) -> bool:
        waiting_to_tell = self._events or self._arrived or self._ended or self._texts
        return not waiting_to_tell and self.scheduler.idle(self._clock())

    def submit(self, request: EngineRequest) -> None:
        """Take a request: its events come with the next steps. Never raises for a bad request."""
        text = Text(request, prompt_parts(request, self._backend))
        self._texts.add(text)
        while text.is_short and not self._read_part(text):
            pass

    def _read_texts(self) -> None:
        """Tokenize what was submitted: one part at least, and no more than there is time for."""
        if not self._texts:
            return
        now = self._clock()
        alone = self.scheduler.idle(now)
        end = now + (TEXT_ALONE_S if alone else TEXT_SHARE * self._step_s)
        while self._texts:
            self._read_part(self._texts.next())
            if self._clock() >= end:
                break

    def _read_part(self, text: Text) -> bool:
        """True: that was the last."""
        try:
            part = next(text.parts, None)
            if part is not None:
                text.tokens += part
                return False
            self._begin(text)
        except QwendError as error:
            self._events.append(Failed(text.request.id, error.code, str(error)))
        self._texts.remove(text)
        return True

    def _begin(self, text: Text) -> None:
        """All of its text is tokens. Raises: RequestError if they are no prompt."""
        request = text.request
        if request.kind is Kind.TOKENIZE:
            self._events.append(tokenized(request, text.tokens))
            return
        sequence = new_sequence(request, text.tokens, self._backend)
        sequence.credit += text.credit
        if sequence.wants_answer and sequence.credit > 0 and not sequence.answer:
            sequence.opening = self._openings.take(request.uid, sequence.prompt)
        self.scheduler.add(sequence)
        if sequence.answer and len(sequence.answer) >= sequence.max_tokens:
            self._finish(sequence, "length")  # an earlier engine could not tell it any more
            return
        self._arrived.append(sequence)

    def cancel(self, request_id: int) -> None:
        """End a request wherever it is. One that is already over stays as it ended."""
        text = self._texts.find(request_id)
        if text is not None:
            self._texts.remove(text)
            self._events.append(cancelled(text.request))
            return
        sequence = self.scheduler.find(request_id)
        if sequence is not None:
            self._finish(sequence, "cancelled")
            self._settle()

    def grant(self, request_id: int, tokens: int) -> None:
        """Allow the request to produce that many tokens more."""
        text = self._texts.find(request_id)
        if text is not None:
            text.credit += tokens
        sequence = self.scheduler.find(request_id)
        if sequence is not None:
            sequence.credit += tokens

    def limit_threads(self, threads: int) -> None:
        """Compute with at most so many threads from the next step on; 0: no limit.

        Without a controller of company the count never changes, and so it stays here.
        """
        if self._company is not None:
            self._company.limit(threads)
            self._backend.set_threads(self._company.threads)
            self._regulated = True

    def shrink(self, prefix_bytes: int) -> None:
        """Keep idle prefixes in so many bytes of memory; what is too much leaves at once."""
        self.prefix_cache.shrink(prefix_bytes)
        self._regulated = True

    def step(self) -> list[Event]:
        """Schedule, decode, sample, emit. Returns everything that happened since the last step."""
        settled = self._settle()
        self._read_texts()
        if self._admit():
            # First tokens that needed no step are not to wait for one: it takes 37 ms for 0.5B.
            return self._emit(changed=settled)
        batch = self.scheduler.schedule(self._clock())
        elapsed = None if batch is None else self._decode(batch)
        if batch is not None and elapsed is not None:
            wrong = self._sample(batch)
            self.speed.step(len(batch) - wrong, len(batch.sampled_rows) - wrong, elapsed)
            self._report_prefill(batch)
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

    def _admit(self) -> bool:
        """Start who has room; True if one of them has begun its answer without a step."""
        begun = False
        for sequence in self.scheduler.admit(self._clock()):
            self._events.append(
                Started(sequence.id, len(sequence.prompt), sequence.cached, sequence.times.started)
            )
            if sequence.opening is not None:
                begun |= self._begin_from_opening(sequence)
        for ahead, sequence in enumerate(self.scheduler.waiting):
            if sequence in self._arrived:
                self._events.append(Queued(sequence.id, ahead))
        self._arrived.clear()
        return begun

    def _begin_from_opening(self, sequence: Sequence) -> bool:
        """The prompt was computed while it was typed: choose the first token without a step.

        False if its cells are no longer there.
        """
        logits, sequence.opening = sequence.opening, None
        if sequence.computed != sequence.known:
            return False
        self._prepare_to_answer(sequence)
        assert sequence.sampler is not None
        sequence.state = State.DECODE
        self._take_token(sequence, sequence.sampler.sample_kept(logits))
        return True

    def _decode(self, batch: Batch) -> float | None:
        """Seconds that it took; None if the model refused."""
        begin = self._clock()
        used_cells = self.scheduler.used_cells
        try:
            self._backend.decode(batch)
        except DecodeFailed as error:
            self._fail_rows(batch, error)
            return None
        now = self._clock()
        elapsed = self._step_s = now - begin
        rows, sampled = len(batch), len(batch.sampled_rows)
        self._steps += 1
        self._cost.observe(rows, elapsed, sampled=sampled, used_cells=used_cells)
        if self._company is not None:
            self._keep_company(rows, sampled, used_cells, elapsed, now)
        return elapsed

    def _keep_company(
        self, rows: int, sampled: int, used_cells: int, elapsed: float, now: float
    ) -> None:
        assert self._company is not None
        before = self._company.threads
        self._company.observe(rows, sampled, used_cells, elapsed, now)
        if self._company.threads != before:
            self._backend.set_threads(self._company.threads)

    def _sample(self, batch: Batch) -> int:
        """Take what the rows brought; return how many brought nothing, being wrong drafts."""
        wrong = 0
        for sequence, outputs in self.scheduler.commit(batch):
            if sequence.wants_answer:
                wrong += len(outputs) - self._sample_answer(sequence, batch, outputs)
            else:
                self._keep_opening(sequence, outputs[0])
        return wrong

    def _sample_answer(self, sequence: Sequence, batch: Batch, outputs: tuple[int, ...]) -> int:
        """Take a token for the known row, and go on as long as the drafts are what is sampled.

        Returns how many tokens were taken.
        """
        self._prepare_to_answer(sequence)
        taken = 0
        for taken, output in enumerate(outputs, 1):
            assert sequence.sampler is not None
            token = sequence.sampler.sample(output)
            self._take_token(sequence, token)
            # Tokens that were held back for a stop string may have gone out with this one, and
            # have taken the credit that the next was to have.
            over = sequence.state is State.FINISHED or sequence.credit <= 0
            if over or taken == len(outputs) or token != batch.rows[outputs[taken]].token:
                break
            self.scheduler.accept(sequence)
        if len(outputs) > 1:
            self.scheduler.settle(sequence)
        return taken

    def _prepare_to_answer(self, sequence: Sequence) -> None:
        if sequence.sampler is None:
            sequence.sampler = self._backend.open_sampler(
                sequence.request.sampling, sequence.prompt, tuple(sequence.answer)
            )
            if self._open_drafter is not None:
                sequence.drafter = self._open_drafter(sequence.tokens)

    def _keep_opening(self, sequence: Sequence, output: int) -> None:
        uid = sequence.request.uid
        logits = self._backend.keep_logits(output)
        # Each pause in the typing leaves copies; only those of the latest can be of use.
        for tokens in self._openings.keep(uid, sequence.prompt, logits, sequence.checkpoint):
            self.prefix_cache.drop(uid, tokens)

    def _take_token(self, sequence: Sequence, token: int) -> None:
        now = self._clock()
        sequence.times.token(now)
        if self._backend.ends_answer(token) and not sequence.request.sampling.ignore_eos:
            self._finish(sequence, "stop")
            return
        if sequence.drafter is not None:
            sequence.drafter.extend(token)
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

    def _report_prefill(self, batch: Batch) -> None:
        moved = {row.seq_id for row in batch.rows}
        for sequence in self.scheduler.running:
            # Progress comes before the first token only, as the protocol says. One that waits
            # tells nothing: its client may not even be reading.
            waits = sequence.seq_id not in moved or not sequence.remaining_prefill
            if not waits and not sequence.answer:
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
        if events or changed or self._regulated:
            self._regulated = False
            events.append(
                Gauges(
                    step=self._steps,
                    running=len(scheduler.running),
                    waiting=len(scheduler.waiting),
                    used_cells=scheduler.used_cells,
                    prefix_bytes=self.prefix_cache.used_bytes,
                    disk_bytes=self.prefix_cache.disk_bytes,
                    threads=None if self._company is None else self._company.status(self._clock()),
                    decode_tok_s=self.speed.decode_tok_s,
                    prefill_tok_s=self.speed.prefill_tok_s,
                )
            )
        return events

    def check_integrity(self) -> None:
        """Raise EngineBug if the accounting is wrong; for tests, after every operation."""
        self.prefix_cache.check_integrity()
        self.scheduler.check_integrity()
