"""The daemon's messages about faults, about itself and about the connection.

Rule 1: `read` accepts exactly what docs/protocol.md allows; `to_map` is its inverse.
Rule 2: this file does not know when they are sent, nor what a status map contains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

from qwend.wire import limits
from qwend.wire.fields import Fields
from qwend.wire.ids import read_id, read_nonce


@dataclass(frozen=True, slots=True)
class Error:
    """With an id, the end of that request; without one, about the connection.

    `code` is one of `codes.ErrorCode`; a newer daemon may send one that this side does not know.
    """

    op: ClassVar[str] = "error"
    code: str
    message: str
    id: int | None = None
    retry_after_s: float | None = None

    def to_map(self) -> dict[str, object]:
        fields: dict[str, object] = {"op": self.op}
        if self.id is not None:
            fields["id"] = self.id
        fields["code"] = str(self.code)
        fields["message"] = self.message
        if self.retry_after_s is not None:
            fields["retry_after_s"] = self.retry_after_s
        return fields

    @classmethod
    def read(cls, source: Fields) -> Error:
        retry = (
            source.number("retry_after_s", 0.0, math.inf) if source.has("retry_after_s") else None
        )
        return cls(
            id=read_id(source) if source.has("id") else None,
            code=source.text("code", max_chars=limits.NAME_CHARS),
            message=source.text("message"),
            retry_after_s=retry,
        )


@dataclass(frozen=True, slots=True)
class StatusReply:
    op: ClassVar[str] = "status"
    status: Mapping[str, object]

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "status": self.status}

    @classmethod
    def read(cls, source: Fields) -> StatusReply:
        status = source.value("status")
        if type(status) is not dict:
            raise source.wrong("status", status, "a map", "invalid_message")
        return cls(cast("dict[str, object]", status))


@dataclass(frozen=True, slots=True)
class Pong:
    op: ClassVar[str] = "pong"
    nonce: int | None = None

    def to_map(self) -> dict[str, object]:
        return {"op": self.op} if self.nonce is None else {"op": self.op, "nonce": self.nonce}

    @classmethod
    def read(cls, source: Fields) -> Pong:
        return cls(read_nonce(source))


@dataclass(frozen=True, slots=True)
class GoAway:
    """No new request is taken on this connection; accepted ones go on to their end."""

    op: ClassVar[str] = "goaway"
    reason: str
    message: str

    def to_map(self) -> dict[str, object]:
        return {"op": self.op, "reason": self.reason, "message": self.message}

    @classmethod
    def read(cls, source: Fields) -> GoAway:
        reason = source.text("reason", max_chars=limits.NAME_CHARS)
        return cls(reason, source.text("message"))
