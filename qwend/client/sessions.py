"""Conversations that the daemon keeps, as a program asks for them. Sans-IO, for both clients.

Rule 1: that answers come in pages ends here.
Rule 2: this file does not know how a question travels: it yields what to ask and is sent what came.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from qwend.client.errors import RequestFailed
from qwend.wire import SessionFacts, SessionMessage, Sessions, SessionsReply, Welcome

CAPABILITY = "sessions"

Result = TypeVar("Result")
Question = Callable[[int], Sessions]
"""Makes the message of a request's id."""
Asking = Generator[Question, SessionsReply, Result]


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A whole conversation."""

    facts: SessionFacts
    messages: tuple[SessionMessage, ...]


def check_kept(session: str | None, welcome: Welcome) -> None:
    """Raises: RequestFailed if one is named and this daemon keeps none."""
    if session is not None and CAPABILITY not in welcome.capabilities:
        raise RequestFailed(
            "unsupported", f"this daemon ({welcome.server}) keeps no sessions: ask without one"
        )


def all_sessions() -> Asking[tuple[SessionFacts, ...]]:
    found: list[SessionFacts] = []
    while True:
        reply = yield _list(len(found))
        found += reply.sessions
        if not reply.more or not reply.sessions:
            return tuple(found)


def whole_session(name: str) -> Asking[KeptSession]:
    said: list[SessionMessage] = []
    while True:
        reply = yield _show(name, len(said))
        said += reply.messages or ()
        if not reply.more or not reply.messages:
            return KeptSession(reply.sessions[0], tuple(said))


def renamed(name: str, to: str) -> Asking[SessionFacts]:
    reply = yield lambda id_: Sessions(id_, "rename", name, to)
    return reply.sessions[0]


def deleted(name: str) -> Asking[SessionFacts]:
    reply = yield lambda id_: Sessions(id_, "delete", name)
    return reply.sessions[0]


def _list(skip: int) -> Question:
    return lambda id_: Sessions(id_, "list", skip=skip)


def _show(name: str, skip: int) -> Question:
    return lambda id_: Sessions(id_, "show", name, skip=skip)
