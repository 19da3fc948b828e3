"""The conversations of sessions, as the event loop sees them.

Owns which sessions are being answered now, and the turn of each such request: what was said before,
what the broker passes on, and that it is kept before the client hears `done`. Knows nothing of SQL
and never waits: reading and writing is done by a Keeper, in a thread of its own, in the order in
which it is asked.

A turn is kept if it ends with `done`: not where nothing was said before a cancel, and not where it
ends in an error or with its connection, for nobody knows then what its client has seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from qwend.config import SessionsConfig
from qwend.daemon.resolve import Submitted
from qwend.errors import CapacityError, QwendError, RequestError
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error
from qwend.wire.prompt import ChatMessage
from qwend.wire.requests import Chat, Prefill
from qwend.wire.sessions import Sessions, SessionsReply

if TYPE_CHECKING:  # with SQLite, which not every Python has
    from qwend.daemon.conversation_store import Begun, ConversationStore

# What a client is told to wait while a session is answered: about one short answer.
RETRY_AFTER_S = 2.0
# Questions about sessions that one uid may have waiting: each can read a page of 0.5 MiB, and they
# go through the same thread as everybody's turns.
ASKS_AT_ONCE = 8

Result = TypeVar("Result")


class Keeper(Protocol):
    """Where work on the store is done, one after another."""

    def do(
        self,
        work: Callable[[ConversationStore], Result],
        then: Callable[[Result | QwendError], None],
    ) -> None:
        """Have `work` done, and `then` called in the event loop with what came of it."""


class Conversations:
    """keeper: None where no sessions are kept. limits: in force from the next turn on."""

    def __init__(self, limits: SessionsConfig, keeper: Keeper | None) -> None:
        self.limits = limits
        self.keeper = keeper
        self._answered: set[tuple[int, str]] = set()
        self._asks: Counter[int] = Counter()

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What a `welcome` says of it."""
        return () if self.keeper is None else ("sessions",)

    def check(self, uid: int, message: Submitted) -> None:
        """Raises: RequestError or CapacityError if the session that it names cannot be had now."""
        name = _session_of(message)
        if name is None:
            return
        if self.keeper is None:
            raise _unsupported()
        if isinstance(message, Chat) and (uid, name) in self._answered:
            raise CapacityError(
                f"session {name!r} is being answered: wait for that answer, or cancel it",
                retry_after_s=RETRY_AFTER_S,
            )

    def turn(self, uid: int, message: Submitted) -> Turn | None:
        """The turn of a request that was checked; None if it names no session.

        Whoever gets one calls its `end`.
        """
        name = _session_of(message)
        if name is None:
            return None
        assert isinstance(message, Chat | Prefill)
        assert message.messages is not None
        turn = Turn(self, uid, name, message.messages, keeps=isinstance(message, Chat))
        if turn.keeps:
            self._answered.add((uid, name))
        return turn

    def ended(self, turn: Turn) -> None:
        if turn.keeps:
            self._answered.discard((turn.uid, turn.name))

    def ask(
        self, uid: int, message: Sessions, then: Callable[[SessionsReply | Error], None]
    ) -> None:
        """Answer a question about the uid's sessions."""

        def answered(outcome: SessionsReply | QwendError) -> None:
            self._asks[uid] -= 1
            if not self._asks[uid]:
                del self._asks[uid]
            then(_as_error(outcome, message.id) if isinstance(outcome, QwendError) else outcome)

        try:
            self._check_ask(uid, message)
        except QwendError as error:
            then(_as_error(error, message.id))
            return
        assert self.keeper is not None
        self._asks[uid] += 1
        self.keeper.do(lambda store: _reply(store, uid, message), answered)

    def _check_ask(self, uid: int, message: Sessions) -> None:
        if self.keeper is None:
            raise _unsupported()
        if self._asks[uid] >= ASKS_AT_ONCE:
            raise CapacityError(
                f"uid {uid} has {ASKS_AT_ONCE} questions about sessions waiting",
                retry_after_s=RETRY_AFTER_S,
            )
        changes = (message.name, message.to) if message.do in ("rename", "delete") else ()
        for name in changes:
            if name is not None and (uid, name) in self._answered:
                raise CapacityError(
                    f"session {name!r} is being answered: wait for that answer, or cancel it",
                    retry_after_s=RETRY_AFTER_S,
                )


class Turn:
    """One request of a session. keeps: what is said becomes a part of it.

    `read`, then `say` with each piece of text that is passed on, then perhaps `keep`, and `end`.
    """

    __slots__ = ("_begun", "_conversations", "_texts", "keeps", "messages", "name", "uid")

    def __init__(
        self,
        conversations: Conversations,
        uid: int,
        name: str,
        messages: tuple[ChatMessage, ...],
        *,
        keeps: bool,
    ) -> None:
        self.uid = uid
        self.name = name
        self.messages = messages
        self.keeps = keeps
        self._conversations = conversations
        self._begun: Begun | None = None
        self._texts: list[str] = []

    @property
    def has_begun(self) -> bool:
        """`read` has brought what was said before."""
        return self._begun is not None

    def read(self, then: Callable[[tuple[ChatMessage, ...] | QwendError], None]) -> None:
        """Call `then` with the whole conversation to compute from, or with why there is none."""

        def was_read(outcome: Begun | QwendError) -> None:
            if isinstance(outcome, QwendError):
                then(outcome)
                return
            self._begun = outcome
            then((*outcome.said, *outcome.new))

        limits = self._conversations.limits
        self._keeper.do(
            lambda store: store.begin(self.uid, self.name, self.messages, limits), was_read
        )

    def say(self, text: str) -> None:
        """This piece of the answer goes to the client."""
        self._texts.append(text)

    def is_worth_keeping(self, finish_reason: str) -> bool:
        return self.keeps and (finish_reason != "cancelled" or any(self._texts))

    def is_kept(self, said: tuple[ChatMessage, ...]) -> bool:
        """What `read` has brought ends with this very turn: an earlier process has kept it."""
        answer = ChatMessage("assistant", "".join(self._texts))
        assert self._begun is not None
        turn = (*self._begun.new, answer)
        return self._begun.said[-len(turn) :] == turn

    def keep(self, finish_reason: str, then: Callable[[QwendError | None], None]) -> None:
        """Call `then` once the turn is on the disk, or with why it is not."""
        begun = self._begun
        assert begun is not None
        answer = ChatMessage("assistant", "".join(self._texts))
        self._keeper.do(
            lambda store: store.append(
                self.uid, self.name, begun.base, (*begun.new, answer), finish_reason
            ),
            then,
        )

    def end(self) -> None:
        """The request is over, however. May be called again."""
        self._conversations.ended(self)

    def explained(self, error: Error) -> Error:
        """An error of the engine, in the words of who knows only the session."""
        if error.code != ErrorCode.CONTEXT_EXCEEDED:
            return error
        return replace(
            error,
            message=f"session {self.name!r} has become too long for the model: {error.message}; "
            "or go on in a new session: this one stays as it is",
        )

    @property
    def _keeper(self) -> Keeper:
        assert self._conversations.keeper is not None
        return self._conversations.keeper


def _session_of(message: Submitted) -> str | None:
    return message.session if isinstance(message, Chat | Prefill) else None


def _reply(store: ConversationStore, uid: int, message: Sessions) -> SessionsReply:
    if message.do == "list":
        listed, more = store.listing(uid, message.skip)
        return SessionsReply(message.id, listed, more)
    assert message.name is not None
    if message.do == "show":
        facts, page, more = store.show(uid, message.name, message.skip)
        return SessionsReply(message.id, (facts,), more, page)
    if message.do == "rename":
        assert message.to is not None
        return SessionsReply(message.id, (store.rename(uid, message.name, message.to),))
    return SessionsReply(message.id, (store.delete(uid, message.name),))


def _as_error(error: QwendError, client_id: int) -> Error:
    return Error(
        error.code, str(error), id=client_id, retry_after_s=getattr(error, "retry_after_s", None)
    )


def _unsupported() -> RequestError:
    return RequestError(
        "this daemon keeps no sessions (enabled under [sessions] is false)",
        code=ErrorCode.UNSUPPORTED,
    )
