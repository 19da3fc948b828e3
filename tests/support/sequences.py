"""Sequences without an engine, for tests of what the scheduler is made of."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Any

from qwend.engine.request import Kind, Priority
from qwend.engine.sequence import Sequence, State, Times
from tests.support.engine import ask


def sequence_of(
    prompt: SequenceOf[int] = (1,),
    *,
    max_tokens: int = 10,
    uid: int = 1000,
    kind: Kind = Kind.COMPLETE,
    priority: Priority = Priority.INTERACTIVE,
    received: float = 0.0,
    credit: int = 1 << 20,
    **fields: Any,
) -> Sequence:
    """A sequence that waits; fields: further fields of its request."""
    request = ask(prompt, uid=uid, kind=kind, priority=priority, **fields)
    tokens = 0 if kind is Kind.PREFILL else max_tokens
    return Sequence(request, tuple(prompt), tokens, Times(received), credit)


def running_at(
    seq_id: int,
    known: int,
    computed: int,
    *,
    source: Sequence | None = None,
    shared: int = 0,
    **fields: Any,
) -> Sequence:
    """One that runs: its prompt is 0, 1, 2, ... and `computed` tokens of it are in the cells."""
    sequence = sequence_of(tuple(range(known)), **fields)
    sequence.seq_id, sequence.computed = seq_id, computed
    sequence.source, sequence.shared = source, shared
    sequence.joins = source is not None and computed < shared
    sequence.state = State.PREFILL
    return sequence
