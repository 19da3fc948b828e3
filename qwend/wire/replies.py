"""The messages the daemon sends.

Rule 1: `read` accepts exactly what docs/protocol.md allows; `to_map` is its inverse.
Rule 2: this file does not know which request a message answers, nor the order of messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from qwend.wire import limits
from qwend.wire.fields import Fields
from qwend.wire.ids import read_id
from qwend.wire.usage import Timings, Usage

Stage = Literal["queued", "prefill", "recovering", "waiting", "loading", "pulling", "checking"]
FinishReason = Literal[
    "stop",
    "stop_string",
    "length",
    "cancelled",
    "prefilled",
    "tokenized",
    "drained",
    "reloaded",
    "loaded",
    "unloaded",
    "pulled",
]


@dataclass(frozen=True, slots=True)
class Welcome:
    op: ClassVar[str] = "welcome"
    server: str
    model: str
    context: int
    """Tokens that prompt and answer of one request may have together."""
    capabilities: tuple[str, ...] = ()
    frame_bytes: int = limits.FRAME_BYTES
    """The largest payload the daemon takes from now on."""
    protocol: str = limits.PROTOCOL

    def to_map(self) -> dict[str, object]:
        return {
            "op": self.op,
            "protocol": self.protocol,
            "server": self.server,
            "model": self.model,
            "context": self.context,
            "capabilities": list(self.capabilities),
            "frame_bytes": self.frame_bytes,
        }

    @classmethod
    def read(cls, source: Fields) -> Welcome:
        chars = limits.NAME_CHARS
        return cls(
            protocol=source.text("protocol", max_chars=chars),
            server=source.text("server", max_chars=chars),
            model=source.text("model", max_chars=chars),
            context=source.integer("context", 0, limits.COUNT_MAX),
            capabilities=source.texts(
                "capabilities", max_entries=limits.CAPABILITIES, max_chars=chars
            ),
            frame_bytes=source.integer("frame_bytes", limits.HELLO_FRAME_BYTES, limits.COUNT_MAX),
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    op: ClassVar[str] = "accepted"
    id: int
    prompt_tokens: int
    cached_tokens: int

    def to_map(self) -> dict[str, object]:
        return {
            "op": self.op,
            "id": self.id,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
        }

    @classmethod
    def read(cls, source: Fields) -> Accepted:
        prompt_tokens = source.integer("prompt_tokens", 0, limits.COUNT_MAX)
        return cls(
            read_id(source), prompt_tokens, source.integer("cached_tokens", 0, limits.COUNT_MAX)
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """queued: `total` requests are ahead and `done` is 0. prefill: tokens of the prompt.

    recovering: the engine died after `done` tokens of the answer, and the next one will go on;
    `total` is 0.

    waiting: `total` answers of the model before have to end first, and `done` is 0. loading: the
    model that will answer is being loaded, `done` percent of it; `total` is 100.

    pulling: KiB of a model's file that are there, `total` 0 until its size is known. checking: KiB
    of what is there that have been read again, or joined.
    """

    op: ClassVar[str] = "progress"
    id: int
    stage: Stage
    done: int
    total: int

    def to_map(self) -> dict[str, object]:
        return {
            "op": self.op,
            "id": self.id,
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
        }

    @classmethod
    def read(cls, source: Fields) -> Progress:
        return cls(
            read_id(source),
            source.choice("stage", get_args(Stage)),
            source.integer("done", 0, limits.COUNT_MAX),
            source.integer("total", 0, limits.COUNT_MAX),
        )


@dataclass(frozen=True, slots=True)
class Token:
    """Tokens `index` .. `index + len(ids) - 1` of the answer, and the text they release.

    `ids` is empty where only text comes that had been held back as a possible stop string.
    """

    op: ClassVar[str] = "token"
    id: int
    index: int
    ids: tuple[int, ...]
    text: str
    reasoning: str = ""
    """What the model says to itself; it comes before `text`."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "op": self.op,
            "id": self.id,
            "index": self.index,
            "ids": list(self.ids),
            "text": self.text,
        }
        if self.reasoning:
            fields["reasoning"] = self.reasoning
        return fields

    @classmethod
    def read(cls, source: Fields) -> Token:
        index = source.integer("index", 0, limits.COUNT_MAX)
        reasoning = source.text("reasoning") if source.has("reasoning") else ""
        return cls(read_id(source), index, source.token_ids("ids"), source.text("text"), reasoning)


@dataclass(frozen=True, slots=True)
class Done:
    op: ClassVar[str] = "done"
    id: int
    finish_reason: FinishReason
    usage: Usage
    timings: Timings | None = None
    seed: int | None = None
    tokens: tuple[int, ...] | None = None
    """The answer to `tokenize`."""
    model: str | None = None
    """That was pulled, as the store calls it; that was loaded, or let go of."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "op": self.op,
            "id": self.id,
            "finish_reason": self.finish_reason,
            "usage": self.usage.to_map(),
        }
        if self.timings is not None:
            fields["timings"] = self.timings.to_map()
        if self.seed is not None:
            fields["seed"] = self.seed
        if self.tokens is not None:
            fields["tokens"] = list(self.tokens)
        if self.model is not None:
            fields["model"] = self.model
        return fields

    @classmethod
    def read(cls, source: Fields) -> Done:
        return cls(
            id=read_id(source),
            finish_reason=source.choice("finish_reason", get_args(FinishReason)),
            usage=Usage.read(source.inside("usage")),
            timings=Timings.read(source.inside("timings")) if source.has("timings") else None,
            seed=source.integer("seed", 0, limits.SEED_MAX) if source.has("seed") else None,
            tokens=source.token_ids("tokens") if source.has("tokens") else None,
            model=source.text("model", max_chars=limits.NAME_CHARS)
            if source.has("model")
            else None,
        )
