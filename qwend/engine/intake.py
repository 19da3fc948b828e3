"""From a request to a sequence that may wait for its turn, or an error that says why it may not."""

from __future__ import annotations

from qwend.engine.answer import replay_answer
from qwend.engine.backend import Backend
from qwend.engine.continuation import Continuation
from qwend.engine.events import Finished
from qwend.engine.prompt import answer_opening, reasoning_splitter
from qwend.engine.prompt_limit import context_exceeded
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.sequence import Sequence, Times
from qwend.errors import RequestError


def new_sequence(request: EngineRequest, prompt: list[int], backend: Backend) -> Sequence:
    """Raises: RequestError if the prompt is empty or leaves no room for an answer."""
    facts = backend.facts
    limit = min(facts.cells, facts.train_context)
    room = limit - len(prompt)
    if not prompt:
        raise RequestError("the prompt is empty: give at least one token of text")
    if room < (1 if request.kind is not Kind.PREFILL else 0):
        raise context_exceeded(len(prompt), limit)
    sequence = Sequence(
        request=request,
        prompt=tuple(prompt),
        max_tokens=0 if request.kind is Kind.PREFILL else min(request.max_tokens, room),
        times=Times(request.received_s),
        credit=request.credit,
        reasoning=reasoning_splitter(request, facts),
        checkpoint=_checkpoint(request, prompt, backend),
    )
    if request.continuation is not None:
        _go_on(sequence, request.continuation, backend)
    return sequence


def tokenized(request: EngineRequest, tokens: list[int]) -> Finished:
    """The answer to a request that wanted nothing but token ids."""
    sequence = Sequence(request, (), 0, Times(request.received_s), credit=0)
    sequence.finish_reason = "tokenized"
    return sequence.finished_event(tokens)


def cancelled(request: EngineRequest) -> Finished:
    """The end of a request whose prompt was not tokenized yet."""
    sequence = Sequence(request, (), 0, Times(request.received_s), credit=0)
    sequence.finish_reason = "cancelled"
    return sequence.finished_event()


def _go_on(sequence: Sequence, done: Continuation, backend: Backend) -> None:
    """Bring the sequence to where an earlier engine has left it, but for its cells."""
    replay_answer(sequence, done, backend.token_bytes)
    times = sequence.times
    times.started, times.first_token = done.started_s, done.first_token_s
    times.last_token = done.last_token_s
    sequence.cached = done.cached_tokens
    sequence.preempted = True  # as after a preemption: what is found again is no help of others


def _checkpoint(request: EngineRequest, prompt: list[int], backend: Backend) -> int:
    """Where a copy of the cells is worth keeping for the next turn, in tokens; 0: nowhere.

    Memory that can be cut back needs none. Recurrent memory cannot, and a conversation's next
    prompt rarely goes on exactly where the last answer ended: its reasoning is left out.
    """
    opens_answer = request.kind is Kind.CHAT or request.partial
    if backend.facts.can_trim or request.turns is None or not opens_answer:
        return 0
    opening = answer_opening(request, backend)
    return len(prompt) - len(opening) if prompt[-len(opening) :] == opening else 0
