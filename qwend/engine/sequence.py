"""One request on its way through the model: where it stands and what it has produced.

Owned by the scheduler's thread. Its states:

    WAITING -> PREFILL -> DECODE -> FINISHED      (any state -> FINISHED by cancel or failure)
       ^---------------------'                    (preempted: what it had is computed or restored)

Positions: tokens [0, computed) are in the cells, and [0, known) are known: the prompt and the
answer so far. In DECODE exactly the last known token is not computed yet.
"""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from enum import Enum, auto
from statistics import median
from typing import Any

from qwend.engine.backend import Sampler
from qwend.engine.detokenizer import Detokenizer
from qwend.engine.drafting import Drafter
from qwend.engine.events import Finished
from qwend.engine.reasoning import ReasoningSplitter
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.stop import StopMatcher


class State(Enum):
    WAITING = auto()
    PREFILL = auto()
    DECODE = auto()
    FINISHED = auto()


@dataclass(slots=True)
class Times:
    """CLOCK_MONOTONIC in seconds; 0.0 = not reached yet."""

    received: float
    started: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    gaps: list[float] = field(default_factory=list)

    def token(self, now: float) -> None:
        if self.first_token:
            self.gaps.append(now - self.last_token)
        else:
            self.first_token = now
        self.last_token = now


@dataclass(slots=True, eq=False)
class Sequence:
    request: EngineRequest
    prompt: tuple[int, ...]
    max_tokens: int
    times: Times
    credit: int
    state: State = State.WAITING
    seq_id: int = -1
    cached: int = 0
    computed: int = 0
    answer: list[int] = field(default_factory=list)
    sampler: Sampler | None = None
    finish_reason: str = ""
    drafter: Drafter | None = None
    opening: Any = None  # logits of the last prompt token, where they are known already
    checkpoint: int = 0  # keep a copy of the cells when so many tokens are computed; 0: none
    # With whom it has the first `shared` cells in common; see cell_sharing.py. While it `joins`,
    # the source is still computing them and the sequence waits.
    source: Sequence | None = None
    shared: int = 0
    # Seconds of the engine's clock: since when it waits, and when it was last given its cells.
    # promoted: a background sequence that has waited long enough to count as an interactive one.
    waiting_since: float = field(init=False)
    admitted: float = 0.0
    promoted: bool = False
    joins: bool = False
    preempted: bool = False  # once at least: it has computed tokens that it may find again
    detokenizer: Detokenizer = field(default_factory=Detokenizer)
    stop: StopMatcher = field(init=False)
    reasoning: ReasoningSplitter | None = None  # None: all text is content
    # Text of the answer in characters: produced so far, released so far, and where each token's
    # text ends; ids_released counts the tokens that have gone out.
    text_length: int = 0
    text_released: int = 0
    text_ends: list[int] = field(default_factory=list)
    ids_released: int = 0
    # Characters of what is released next that an earlier engine has sent already.
    content_sent: int = 0
    reasoning_sent: int = 0

    def __post_init__(self) -> None:
        self.stop = StopMatcher(self.request.stop)
        self.waiting_since = self.times.received

    @property
    def id(self) -> int:
        return self.request.id

    @property
    def known(self) -> int:
        """Tokens there are: the prompt's and the answer's so far."""
        return len(self.prompt) + len(self.answer)

    @property
    def reserved_cells(self) -> int:
        """Cells this sequence can come to need: the last token of an answer is never computed."""
        return len(self.prompt) + max(0, self.max_tokens - 1)

    @property
    def remaining_prefill(self) -> int:
        """Known tokens that are not computed; after a preemption some are of the answer."""
        over = self.state in (State.DECODE, State.FINISHED)
        return 0 if over else self.known - self.computed

    @property
    def ready_prefill(self) -> int:
        """Tokens that may be computed now: the last one brings a token of the answer, and that
        needs credit."""
        if self.state is not State.PREFILL or self.joins:
            return 0
        if self.computed < self.checkpoint:
            return self.checkpoint - self.computed
        withheld = 1 if self.wants_answer and self.credit <= 0 else 0
        return max(0, self.remaining_prefill - withheld)

    @property
    def ready_to_join(self) -> bool:
        """Its source has computed all that it waits for."""
        return self.joins and self.source is not None and self.source.computed >= self.shared

    @property
    def prefilled(self) -> bool:
        """All that was asked for is computed, and nothing but that was asked for."""
        over = self.state is State.FINISHED
        return not (over or self.wants_answer or self.remaining_prefill)

    @property
    def wants_answer(self) -> bool:
        return self.request.kind is not Kind.PREFILL

    @property
    def tokens(self) -> tuple[int, ...]:
        return (*self.prompt, *self.answer)

    @property
    def ready_to_decode(self) -> bool:
        """May be given a decode row: it has a token to go on from, and leave to produce one."""
        return self.state is State.DECODE and self.credit > 0

    @property
    def wants_logits(self) -> bool:
        """Of its last known token."""
        return self.wants_answer or self.request.partial

    def reuse(self, count: int) -> None:
        """The first `count` tokens are in the cells without a step of this sequence."""
        self.computed = count
        # What it computed itself and finds again after a preemption is no help from the cache.
        if not self.preempted:
            self.cached = count

    def token_at(self, position: int) -> int:
        prompt = self.prompt
        return prompt[position] if position < len(prompt) else self.answer[position - len(prompt)]

    def finished_event(self, tokens: SequenceOf[int] | None = None) -> Finished:
        times = self.times
        started = times.started or times.received
        # Of a cancelled answer what was told counts; what was held back then is told to nobody.
        told = self.ids_released if self.finish_reason == "cancelled" else len(self.answer)
        first = times.first_token or started
        return Finished(
            request_id=self.id,
            finish_reason=self.finish_reason,
            prompt_tokens=len(self.prompt),
            cached_tokens=self.cached,
            completion_tokens=told,
            queue_s=started - times.received,
            prefill_s=first - started,
            ttft_s=first - times.received,
            decode_s=times.last_token - times.first_token,
            itl_p50_s=median(times.gaps) if times.gaps else 0.0,
            itl_max_s=max(times.gaps, default=0.0),
            seed=self.request.sampling.seed,
            tokens=None if tokens is None else tuple(tokens),
        )
