"""Conversations that the daemon keeps: their names, and the one message about them and its answer.

Rule 1: what a session may be called, and the two messages `sessions`, are here.
Rule 2: this file does not know where conversations are kept, nor whose they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from qwend.wire import limits
from qwend.wire.fields import Fields
from qwend.wire.prompt import ROLES, Role

SessionAct = Literal["list", "show", "rename", "delete"]
_NAME = re.compile(rf"(?!\.\.?\Z)[A-Za-z0-9._-]{{1,{limits.SESSION_NAME_CHARS}}}\Z")
_NAMED = "1 to 64 of the characters A-Z a-z 0-9 . _ - (not . or .. alone)"


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is known of a session without reading it. created_s, changed_s: Unix time."""

    name: str
    turns: int
    messages: int
    bytes: int
    """Of all texts, as UTF-8, and SESSION_MESSAGE_BYTES for each message."""
    created_s: float
    changed_s: float

    def to_map(self) -> dict[str, object]:
        return {
            "name": self.name,
            "turns": self.turns,
            "messages": self.messages,
            "bytes": self.bytes,
            "created_s": self.created_s,
            "changed_s": self.changed_s,
        }

    @classmethod
    def read(cls, source: Fields) -> SessionFacts:
        facts = cls(
            read_name(source, "name"),
            source.integer("turns", 0, limits.COUNT_MAX),
            source.integer("messages", 0, limits.COUNT_MAX),
            source.integer("bytes", 0, limits.ID_MAX),
            source.number("created_s", 0.0, math.inf),
            source.number("changed_s", 0.0, math.inf),
        )
        source.refuse_others()
        return facts


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """at_s: Unix time at which its turn was kept. finish_reason: of an answer, as `done` had it;
    `length` and `cancelled` were cut off."""

    role: Role
    content: str
    at_s: float
    finish_reason: str | None = None

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"role": self.role, "content": self.content, "at_s": self.at_s}
        if self.finish_reason is not None:
            fields["finish_reason"] = self.finish_reason
        return fields

    @classmethod
    def read(cls, source: Fields) -> SessionMessage:
        ended = source.has("finish_reason")
        message = cls(
            source.choice("role", ROLES),
            source.text("content"),
            source.number("at_s", 0.0, math.inf),
            source.text("finish_reason", max_chars=limits.NAME_CHARS) if ended else None,
        )
        source.refuse_others()
        return message


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a client asks about its user's sessions.

    name: which one; to list has none. to: its new name. skip: how many entries were had already,
    sessions of a list or messages of one session.
    """

    op: ClassVar[str] = "sessions"
    id: int
    do: SessionAct
    name: str | None = None
    to: str | None = None
    skip: int = 0

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id, "do": self.do}
        if self.name is not None:
            fields["name"] = self.name
        if self.to is not None:
            fields["to"] = self.to
        if self.skip:
            fields["skip"] = self.skip
        return fields

    @classmethod
    def read(cls, source: Fields) -> Sessions:
        request_id = source.integer("id", 0, limits.ID_MAX)
        do = source.choice("do", get_args(SessionAct))
        return cls(
            request_id,
            do,
            read_name(source, "name") if do != "list" else None,
            read_name(source, "to") if do == "rename" else None,
            _read_skip(source) if do in ("list", "show") else 0,
        )


@dataclass(frozen=True, slots=True)
class SessionsReply:
    """The end of a `sessions`. sessions: those listed; or the one shown, under its new name, or as
    it was when it was deleted. more: ask again, and skip what came so far."""

    op: ClassVar[str] = "sessions"
    id: int
    sessions: tuple[SessionFacts, ...]
    more: bool = False
    messages: tuple[SessionMessage, ...] | None = None
    """Of the one that is shown."""

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op, "id": self.id}
        fields["sessions"] = [each.to_map() for each in self.sessions]
        fields["more"] = self.more
        if self.messages is not None:
            fields["messages"] = [each.to_map() for each in self.messages]
        return fields

    @classmethod
    def read(cls, source: Fields) -> SessionsReply:
        return cls(
            source.integer("id", 0, limits.ID_MAX),
            tuple(SessionFacts.read(each) for each in _maps(source, "sessions")),
            source.boolean("more"),
            tuple(SessionMessage.read(each) for each in _maps(source, "messages"))
            if source.has("messages")
            else None,
        )


def is_session_name(name: str) -> bool:
    return _NAME.match(name) is not None


def read_name(source: Fields, field: str) -> str:
    name = source.text(field)
    if not is_session_name(name):
        raise source.wrong(field, name, _NAMED, "invalid_value")
    return name


def read_session(source: Fields) -> str | None:
    """The optional field `session` of `chat` and `prefill`."""
    return read_name(source, "session") if source.has("session") else None


def session_field(session: str | None) -> dict[str, object]:
    return {} if session is None else {"session": session}


def _read_skip(source: Fields) -> int:
    return source.integer("skip", 0, limits.COUNT_MAX) if source.has("skip") else 0


def _maps(source: Fields, name: str) -> Iterable[Fields]:
    for index, entry in enumerate(source.array(name)):
        yield source.map_value(f"{name}[{index}]", entry)
