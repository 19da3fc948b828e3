"""Conversations in SQLite: what was said in each session of each user.

Owns every statement about the tables of conversation_schema.py. Each method is one transaction:
when it returns, what it did is on the disk; when it raises, nothing has changed. Used by one thread
at a time. Knows nothing of files (conversation_file.py), nor of the event loop.

Every row carries a checksum, for SQLite has none: a bit that was flipped on a memory card is found
out, and not said to the model as if the user had.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, replace

from qwend.config import SessionsConfig
from qwend.daemon.conversation_schema import Damaged, check_tables, first_row, transaction
from qwend.errors import RequestError
from qwend.wire import limits
from qwend.wire.codes import ErrorCode
from qwend.wire.prompt import ChatMessage
from qwend.wire.sessions import SessionFacts, SessionMessage

_FACTS = "name, turns, messages, bytes, created_s, changed_s"


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that may be computed. said: everything before it; new: what of the request is new.

    base: messages that were there when it began.
    """

    said: tuple[ChatMessage, ...]
    new: tuple[ChatMessage, ...]

    @property
    def base(self) -> int:
        return len(self.said)


class ConversationStore:
    """connection: with isolation_level None. clock: Unix time in seconds.

    Raises, every method: sqlite3.Error, or Damaged.
    """

    def __init__(self, connection: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._clock = clock

    def check(self) -> None:
        """Raises: Damaged if a page, a table or a row is not as it was written."""
        check_tables(self._connection)
        for number in self.numbers():
            self.conversation(number)

    def begin(
        self, uid: int, name: str, messages: Sequence[ChatMessage], allowed: SessionsConfig
    ) -> Begun:
        """What a turn with these new messages is computed from.

        Raises: RequestError if there is no room for it, or a second system message.
        """
        found = self._find(uid, name)
        said = () if found is None else tuple(self._messages(found[0]))
        before = tuple(ChatMessage(each.role, each.content) for each in said)
        new = _without_repeated_system(name, before, tuple(messages))
        self._check_room(uid, name, None if found is None else found[1], size_of(new), allowed)
        return Begun(before, new)

    def append(
        self, uid: int, name: str, base: int, turn: Sequence[ChatMessage], finish_reason: str
    ) -> None:
        """Keep a turn: what was new, and the answer as its last message. It begins the session if
        there is none of this name.

        Raises: RequestError if the session has other than `base` messages by now, or would be
        longer than one may be.
        """
        at_s = self._clock()
        said = [SessionMessage(each.role, each.content, at_s) for each in turn]
        said[-1] = replace(said[-1], finish_reason=finish_reason)
        with transaction(self._connection):
            found = self._find(uid, name)
            number, facts = found or (None, SessionFacts(name, 0, 0, 0, at_s, at_s))
            if base != facts.messages:
                raise RequestError(
                    f"session {name!r} was changed meanwhile: look at it, then ask again",
                    code=ErrorCode.BUSY,
                )
            grown = replace(
                facts,
                turns=facts.turns + 1,
                messages=base + len(said),
                bytes=facts.bytes + size_of(said),
                changed_s=at_s,
            )
            if grown.bytes > limits.SESSION_BYTES:
                raise _too_long(name, grown.bytes)
            self._add(self._put(uid, grown, number), said, base)

    def listing(self, uid: int, skip: int = 0) -> tuple[tuple[SessionFacts, ...], bool]:
        """A page of the uid's sessions, the oldest first, and whether more follow."""
        page = limits.SESSION_PAGE_ENTRIES
        rows = self._connection.execute(
            f"SELECT {_FACTS} FROM conversation WHERE uid = ? ORDER BY id LIMIT ? OFFSET ?",
            (uid, page + 1, skip),
        ).fetchall()
        return tuple(SessionFacts(*row) for row in rows[:page]), len(rows) > page

    def show(
        self, uid: int, name: str, skip: int = 0
    ) -> tuple[SessionFacts, tuple[SessionMessage, ...], bool]:
        """A page of one session, and whether more follows. Raises: RequestError: there is none."""
        number, facts = self._existing(uid, name)
        page: list[SessionMessage] = []
        size = 0
        for message in self._messages(number, skip):
            size += len(message.content.encode())
            full = size > limits.SESSION_PAGE_BYTES or len(page) == limits.SESSION_PAGE_ENTRIES
            if page and full:
                return facts, tuple(page), True
            page.append(message)
        return facts, tuple(page), False

    def rename(self, uid: int, name: str, to: str) -> SessionFacts:
        """Raises: RequestError if there is none, or one of the new name already."""
        with transaction(self._connection):
            number, facts = self._existing(uid, name)
            if to != name and self._find(uid, to) is not None:
                raise RequestError(
                    f"there is a session {to!r} already: choose another name, or delete it first",
                    code=ErrorCode.SESSION_EXISTS,
                )
            self._put(uid, replace(facts, name=to), number)
        return replace(facts, name=to)

    def delete(self, uid: int, name: str) -> SessionFacts:
        """Raises: RequestError if there is none."""
        with suppress(sqlite3.OperationalError):
            self.clear_log()  # on a disk that is nearly full that is the room to write in
        with transaction(self._connection):
            number, facts = self._existing(uid, name)
            self._connection.execute("DELETE FROM conversation WHERE id = ?", (number,))
        with suppress(sqlite3.OperationalError):
            self.clear_log()  # what was deleted is to be gone from there, too
        return facts

    def clear_log(self) -> None:
        """Bring what is in the write-ahead log into the database."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def numbers(self) -> list[int]:
        """The rows of all conversations."""
        rows = self._connection.execute("SELECT id FROM conversation ORDER BY id").fetchall()
        return [number for (number,) in rows]

    def conversation(self, number: int) -> tuple[int, SessionFacts, list[SessionMessage]]:
        """A whole one, checked: its uid and what there is. Raises: Damaged."""
        uid, *fields, crc = first_row(
            self._connection, f"SELECT uid, {_FACTS}, crc FROM conversation WHERE id = ?", number
        )
        facts = SessionFacts(*fields)
        if crc != _crc(number, uid, *astuple(facts)):
            raise Damaged(f"the row of session {number} has changed by itself")
        said = list(self._messages(number))
        if (len(said), size_of(said)) != (facts.messages, facts.bytes):
            raise Damaged(f"session {number} is not as long as it says")
        return uid, facts, said

    def take_in(self, uid: int, facts: SessionFacts, said: Sequence[SessionMessage]) -> None:
        """Keep a conversation that another database had."""
        with transaction(self._connection):
            self._add(self._put(uid, facts, None), said, 0)

    def close(self) -> None:
        self._connection.close()

    def _check_room(
        self, uid: int, name: str, facts: SessionFacts | None, new: int, allowed: SessionsConfig
    ) -> None:
        length = new + (0 if facts is None else facts.bytes)
        if length > limits.SESSION_BYTES:
            raise _too_long(name, length)
        count, size = first_row(
            self._connection,
            "SELECT count(*), coalesce(sum(bytes), 0) FROM conversation WHERE uid = ?",
            uid,
        )
        if facts is None and count >= allowed.per_uid:
            raise RequestError(
                f"uid {uid} has {count} sessions already (per_uid under [sessions]): delete one "
                "with 'qwenctl sessions delete', or go on in one that there is",
                code=ErrorCode.NO_SPACE,
            )
        if size + new > allowed.mb_per_uid << 20:
            raise RequestError(
                f"the sessions of uid {uid} have {size:,} bytes already, and may have "
                f"{allowed.mb_per_uid} MiB (mb_per_uid under [sessions]): delete one with 'qwenctl "
                "sessions delete', perhaps after 'qwenctl sessions export'",
                code=ErrorCode.NO_SPACE,
            )

    def _existing(self, uid: int, name: str) -> tuple[int, SessionFacts]:
        found = self._find(uid, name)
        if found is None:
            raise RequestError(
                f"there is no session {name!r}: 'qwenctl sessions' lists yours",
                code=ErrorCode.UNKNOWN_SESSION,
            )
        return found

    def _find(self, uid: int, name: str) -> tuple[int, SessionFacts] | None:
        rows = self._connection.execute(
            f"SELECT id, crc, {_FACTS} FROM conversation WHERE uid = ? AND name = ?", (uid, name)
        ).fetchall()
        if not rows:
            return None
        number, crc, *fields = rows[0]
        if crc != _crc(number, uid, *fields):
            raise Damaged(f"the row of session {number} has changed by itself")
        return number, SessionFacts(*fields)

    def _messages(self, number: int, skip: int = 0) -> Iterator[SessionMessage]:
        rows = self._connection.execute(
            "SELECT place, crc, role, content, at_s, finish_reason FROM message "
            "WHERE conversation = ? AND place >= ? ORDER BY place",
            (number, skip),
        )
        # A connection with a statement that is not at its end cannot be closed.
        with closing(rows):
            for expected, (place, crc, *fields) in enumerate(rows, skip):
                if place != expected or crc != _crc(number, place, *fields):
                    raise Damaged(f"message {expected} of session {number} has changed by itself")
                yield SessionMessage(*fields)

    def _put(self, uid: int, facts: SessionFacts, number: int | None) -> int:
        """Write the row of a session, a new one if it has no number yet. Returns its number."""
        if number is None:
            # Before the row, for it is in the checksum: which messages are whose is said once only.
            (highest,) = first_row(self._connection, "SELECT max(id) FROM conversation")
            number = (highest or 0) + 1
        fields = astuple(facts)
        self._connection.execute(
            f"INSERT INTO conversation (id, uid, {_FACTS}, crc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name, turns = excluded.turns, "
            "messages = excluded.messages, bytes = excluded.bytes, "
            "changed_s = excluded.changed_s, crc = excluded.crc",
            (number, uid, *fields, _crc(number, uid, *fields)),
        )
        return number

    def _add(self, number: int, said: Sequence[SessionMessage], base: int) -> None:
        for place, message in enumerate(said, base):
            fields = astuple(message)
            self._connection.execute(
                "INSERT INTO message "
                "(conversation, place, role, content, at_s, finish_reason, crc) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (number, place, *fields, _crc(number, place, *fields)),
            )


def size_of(messages: Iterable[ChatMessage | SessionMessage]) -> int:
    """What they count as: their texts in UTF-8, and their rows."""
    return sum(len(each.content.encode()) + limits.SESSION_MESSAGE_BYTES for each in messages)


def _without_repeated_system(
    name: str, said: tuple[ChatMessage, ...], new: tuple[ChatMessage, ...]
) -> tuple[ChatMessage, ...]:
    """`new` without the system message that the session has; a script says it each time."""
    if not said or new[0].role != "system":
        return new
    if new[0] != said[0]:
        had = "another" if said[0].role == "system" else "no"
        raise RequestError(
            f"session {name!r} has begun with {had} system message: leave it out of "
            "chat.messages, or begin a session of another name"
        )
    return new[1:]


def _too_long(name: str, size: int) -> RequestError:
    return RequestError(
        f"session {name!r} would have {size:,} bytes, and no session has more than "
        f"{limits.SESSION_BYTES:,}: go on in a new one; this one stays as it is",
        code=ErrorCode.CONTEXT_EXCEEDED,
    )


def _crc(*fields: object) -> int:
    # repr tells 1 from "1" and from 1.0, and a number from its neighbour by all its digits.
    return zlib.crc32(repr(fields).encode("utf-8", "surrogatepass"))
