"""The messages a client sends.

Rule 1: `read` accepts exactly what docs/protocol.md allows; `to_map` is its inverse.
Rule 2: this file does not know whether a message may come now, nor whether its id is in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from qwend.wire import limits
from qwend.wire.fields import Fields
from qwend.wire.generation import DAEMON_DEFAULTS, Generation, read_generation
from qwend.wire.ids import read_id, read_nonce
from qwend.wire.orders import Drain, Load, Pull, Reload, Unload
from qwend.wire.priority import Priority, priority_field, read_priority
from qwend.wire.prompt import (
    ChatMessage,
    Prompt,
    messages_field,
    prompt_field,
    read_messages,
    read_prompt,
)
from qwend.wire.resume import Resume
from qwend.wire.sessions import Sessions, read_session, session_field


@dataclass(frozen=True, slots=True)
class Hello:
    op: ClassVar[str] = "hello"
    protocol: str = limits.PROTOCOL
    client: str | None = None
    capabilities: tuple[str, ...] = ()

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "protocol": self.protocol}
        if self.client is not None:
            fields["client"] = self.client
        if self.capabilities:
            fields["capabilities"] = list(self.capabilities)
        return fields

    @classmethod
    def read(cls, source: Fields) -> Hello:
        chars = limits.NAME_CHARS
        return cls(
            protocol=source.text("protocol", max_chars=chars),
            client=source.text("client", max_chars=chars) if source.has("client") else None,
            capabilities=source.texts(
                "capabilities", max_entries=limits.CAPABILITIES, max_chars=chars
            )
            if source.has("capabilities")
            else (),
        )


@dataclass(frozen=True, slots=True)
class Chat:
    op: ClassVar[str] = "chat"
    id: int
    messages: tuple[ChatMessage, ...]
    generation: Generation = DAEMON_DEFAULTS
    thinking: bool | None = None
    """Whether the model is to reason before it answers; None leaves it to the daemon."""
    priority: Priority | None = None
    """Background makes room for others; None is interactive, but for most of `prefill`."""
    session: str | None = None
    """The conversation that the messages go on with, and that this turn becomes a part of."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id}
        fields["messages"] = messages_field(self.messages)
        if self.thinking is not None:
            fields["thinking"] = self.thinking
        return {
            **fields,
            **session_field(self.session),
            **priority_field(self.priority),
            **self.generation.to_fields(),
        }

    @classmethod
    def read(cls, source: Fields) -> Chat:
        return cls(
            read_id(source),
            read_messages(source),
            read_generation(source),
            read_thinking(source),
            read_priority(source),
            read_session(source),
        )


@dataclass(frozen=True, slots=True)
class Complete:
    op: ClassVar[str] = "complete"
    id: int
    prompt: Prompt
    generation: Generation = DAEMON_DEFAULTS
    priority: Priority | None = None

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id}
        fields["prompt"] = prompt_field(self.prompt)
        return {**fields, **priority_field(self.priority), **self.generation.to_fields()}

    @classmethod
    def read(cls, source: Fields) -> Complete:
        return cls(
            read_id(source), read_prompt(source), read_generation(source), read_priority(source)
        )


@dataclass(frozen=True, slots=True)
class Prefill:
    """Exactly one of `messages` and `prompt` is given."""

    op: ClassVar[str] = "prefill"
    id: int
    messages: tuple[ChatMessage, ...] | None = None
    prompt: Prompt | None = None
    partial: bool = False
    """The last message may go on: what follows is a chat with it, or a prefill with more of it."""
    thinking: bool | None = None
    """That of the chat which follows: it decides how the answer is opened."""
    priority: Priority | None = None
    """None: interactive if `partial`, for a person is typing, else background."""
    session: str | None = None
    """Put this conversation in front of `messages`; it stays as it is."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id}
        if self.messages is not None:
            fields["messages"] = messages_field(self.messages)
        if self.prompt is not None:
            fields["prompt"] = prompt_field(self.prompt)
        if self.partial:
            fields["partial"] = True
        if self.thinking is not None:
            fields["thinking"] = self.thinking
        return {**fields, **session_field(self.session), **priority_field(self.priority)}

    @classmethod
    def read(cls, source: Fields) -> Prefill:
        request_id = read_id(source)
        if source.has("messages") == source.has("prompt"):
            raise source.fault("invalid_message", "prefill needs either 'messages' or 'prompt'")
        partial = source.boolean("partial") if source.has("partial") else False
        thinking = read_thinking(source)
        priority = read_priority(source)
        session = read_session(source)
        if source.has("messages"):
            return cls(
                request_id, read_messages(source), None, partial, thinking, priority, session
            )
        if partial:
            raise source.fault("invalid_message", "prefill.partial needs 'messages'")
        if thinking is not None:
            raise source.fault("invalid_message", "prefill.thinking needs 'messages'")
        if session is not None:
            raise source.fault("invalid_message", "prefill.session needs 'messages'")
        return cls(request_id, prompt=read_prompt(source), priority=priority)


@dataclass(frozen=True, slots=True)
class Tokenize:
    op: ClassVar[str] = "tokenize"
    id: int
    text: str
    special: bool = False
    """Read control tokens such as <|im_end|> in the text as tokens, not as characters."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id, "text": self.text}
        if self.special:
            fields["special"] = True
        return fields

    @classmethod
    def read(cls, source: Fields) -> Tokenize:
        special = source.boolean("special") if source.has("special") else False
        return cls(read_id(source), source.text("text"), special)


@dataclass(frozen=True, slots=True)
class Cancel:
    op: ClassVar[str] = "cancel"
    id: int

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "id": self.id}

    @classmethod
    def read(cls, source: Fields) -> Cancel:
        return cls(read_id(source))


@dataclass(frozen=True, slots=True)
class Credit:
    """`tokens` more may be sent."""

    op: ClassVar[str] = "credit"
    id: int
    tokens: int

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "id": self.id, "tokens": self.tokens}

    @classmethod
    def read(cls, source: Fields) -> Credit:
        return cls(read_id(source), source.integer("tokens", 1, limits.COUNT_MAX))


@dataclass(frozen=True, slots=True)
class Status:
    op: ClassVar[str] = "status"

    def to_map(self) -> dict[str, object]:
        return {"op": self.op}

    @classmethod
    def read(cls, source: Fields) -> Status:
        return cls()


@dataclass(frozen=True, slots=True)
class Ping:
    op: ClassVar[str] = "ping"
    nonce: int | None = None

    def to_map(self) -> dict[str, object]:
        return {"op": self.op} if self.nonce is None else {"op": self.op, "nonce": self.nonce}

    @classmethod
    def read(cls, source: Fields) -> Ping:
        return cls(read_nonce(source))


ClientMessage = (
    Hello
    | Chat
    | Complete
    | Prefill
    | Tokenize
    | Sessions
    | Resume
    | Cancel
    | Credit
    | Status
    | Ping
    | Drain
    | Reload
    | Load
    | Unload
    | Pull
)
CLIENT_MESSAGES: tuple[type[ClientMessage], ...] = get_args(ClientMessage)


def read_thinking(source: Fields) -> bool | None:
    return source.boolean("thinking") if source.has("thinking") else None
