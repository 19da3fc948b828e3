"""What the engine tells the front: one frozen value per event, grouped into one message a step.

Order per request: (Queued | Prefilling)*, Started, Produced*, then exactly one of Finished, Failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Loading:
    """The engine is not ready yet. `fraction` 0..1 of this stage."""

    stage: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The first decode has been run; requests are taken from now on.

    description: what `status` shows of the engine (threads, build, speeds, ...).
    """

    description: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CannotStart:
    """The engine will end: the model or the machine must change first."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Queued:
    request_id: int
    ahead: int


@dataclass(frozen=True, slots=True)
class Started:
    """The request has a sequence and its cells are reserved, since CLOCK_MONOTONIC at_s."""

    request_id: int
    prompt_tokens: int
    cached_tokens: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Prefilling:
    request_id: int
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Produced:
    """Tokens whose text is now certain: `ids` are tokens index .. index+len(ids)-1 of the answer.

    reasoning: of the model for itself; it comes before `text`, which is the answer's content.
    at_s: CLOCK_MONOTONIC when the last of them was sampled.
    """

    request_id: int
    index: int
    ids: tuple[int, ...]
    text: str
    at_s: float
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request that went well. Times in seconds; tokens: the answer of `tokenize`."""

    request_id: int
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_s: float
    prefill_s: float
    ttft_s: float
    decode_s: float
    itl_p50_s: float
    itl_max_s: float
    seed: int
    tokens: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    request_id: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Gauges:
    """The engine's state after a step; the front shows it and never acts on it.

    prefix_bytes, disk_bytes: of the two tiers of the prefix cache. threads: what the controller of
    company says of them (see company.py).
    """

    step: int
    running: int
    waiting: int
    used_cells: int
    prefix_bytes: int
    decode_tok_s: float
    prefill_tok_s: float
    disk_bytes: int = 0
    threads: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Alive:
    """The answer to a ping, between two steps. working: there is something to compute."""

    working: bool


Event = (
    Loading
    | Ready
    | CannotStart
    | Queued
    | Started
    | Prefilling
    | Produced
    | Finished
    | Failed
    | Gauges
    | Alive
)

_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Loading,
        Ready,
        CannotStart,
        Queued,
        Started,
        Prefilling,
        Produced,
        Finished,
        Failed,
        Gauges,
        Alive,
    )
}
_FIELDS = {name: tuple(field.name for field in fields(kind)) for name, kind in _TYPES.items()}
_TUPLES = ("ids", "tokens")


def event_to_map(event: Event) -> dict[str, Any]:
    # Not dataclasses.asdict: that copies every value, each token of a long answer too.
    kind = type(event).__name__
    return {"event": kind, **{name: getattr(event, name) for name in _FIELDS[kind]}}


def event_from_map(fields: Mapping[str, Any]) -> Event:
    """Inverse of `event_to_map` after a trip through msgpack."""
    values = dict(fields)
    kind = _TYPES[values.pop("event")]
    for name in _TUPLES:
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    event: Event = kind(**values)
    return event
