"""What the engine is asked to do: one frozen value per request, and nothing about how it runs.

Every field is resolved: the front has already put the configured default in place of what the
client left out, so the engine never knows what "default" means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

from qwend.engine.continuation import Continuation

# Requests that the daemon makes itself (the default system prompt): no client has this uid, and
# what it leaves in the prefix cache may be shared by everyone.
PUBLIC_UID = -1


class Kind(StrEnum):
    CHAT = "chat"
    COMPLETE = "complete"
    PREFILL = "prefill"
    TOKENIZE = "tokenize"


class Priority(StrEnum):
    """Interactive requests start first, and background ones make room for them."""

    INTERACTIVE = "interactive"
    BACKGROUND = "background"


class Thinking(StrEnum):
    """Whether a chat's model is to reason before it answers.

    MODEL: as it is made to. PREFERRED: where it can. REQUIRED: refused where it cannot.
    """

    MODEL = "model"
    OFF = "off"
    PREFERRED = "preferred"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen.

    `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off.
    """

    temperature: float = 0.7
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int = 0
    logit_bias: tuple[tuple[int, float], ...] = ()
    ignore_eos: bool = False

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0.0


@dataclass(frozen=True, slots=True)
class ChatTurn:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as it crosses from the front to the engine.

    id: unique for the life of the front, chosen by the front.
    uid: whose prefixes it may share (PUBLIC_UID: everyone's).
    turns / text / tokens: the prompt, in exactly one of the three forms.
    partial: a prefill whose last turn is still being written; it opens the answer, as a chat with
    what is there by now would.
    credit: how many tokens may be produced before the front grants more.
    received_s: CLOCK_MONOTONIC when the front received it; both processes share that clock.
    continuation: an earlier engine has started it, and came so far.
    """

    id: int
    kind: Kind
    uid: int
    received_s: float
    turns: tuple[ChatTurn, ...] | None = None
    text: str | None = None
    tokens: tuple[int, ...] | None = None
    parse_special: bool = False
    partial: bool = False
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    thinking: Thinking = Thinking.MODEL
    priority: Priority = Priority.INTERACTIVE
    credit: int = 1 << 30
    sampling: SamplingParams = field(default_factory=SamplingParams)
    continuation: Continuation | None = None

    def to_map(self) -> dict[str, Any]:
        # Not asdict of the whole: that copies every token of a prompt.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        turns = self.turns and [asdict(turn) for turn in self.turns]
        done = self.continuation and self.continuation.to_map()
        return {
            **values,
            "turns": turns,
            "sampling": asdict(self.sampling),
            "continuation": done,
        }

    @classmethod
    def from_map(cls, fields: Mapping[str, Any]) -> EngineRequest:
        """Inverse of `to_map` after a trip through msgpack, which turns tuples into lists."""
        values = dict(fields)
        sampling = dict(values.pop("sampling"))
        sampling["logit_bias"] = tuple((token, bias) for token, bias in sampling["logit_bias"])
        turns = values.pop("turns")
        tokens = values.pop("tokens")
        done = values.pop("continuation")
        return cls(
            kind=Kind(values.pop("kind")),
            turns=None if turns is None else tuple(ChatTurn(**turn) for turn in turns),
            tokens=None if tokens is None else tuple(tokens),
            stop=tuple(values.pop("stop")),
            thinking=Thinking(values.pop("thinking")),
            priority=Priority(values.pop("priority")),
            sampling=SamplingParams(**sampling),
            continuation=None if done is None else Continuation.from_map(done),
            **values,
        )
