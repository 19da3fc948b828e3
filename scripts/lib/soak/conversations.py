"""Talks in sessions: every turn that was acknowledged must be there, word for word, whatever died.

Owns what was acknowledged. A turn is: its `done` came, or the daemon said later that it has it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ledger import Asked
from .library_clients import library, library_answer
from .load import CANCELS, Load, connected
from .oracle import Answer, Turn
from .raw_connection import RawConnection
from .stream_check import StreamCheck
from .survival import LOST, Happened

MAX_TOKENS = 200
ENDED = ("done:stop", "done:length")
DELETED = 0.2

MESSAGES = """SELECT name, role, content FROM message
JOIN conversation ON conversation.id = message.conversation ORDER BY conversation.id, place"""

Said = list[tuple[str, str]]
"""Role and content of each message, in order."""


@dataclass(slots=True)
class Kept:
    """What must be there at the end. deleted: what must not.

    in_doubt: the turn whose end its client never heard; it may be there too, behind the others.
    """

    said: dict[str, Said] = field(default_factory=dict)
    in_doubt: dict[str, Turn] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    @property
    def turns(self) -> int:
        return sum(len(said) // 2 for said in self.said.values())

    def difference(self, name: str, found: Said) -> str | None:
        """What is not as it was acknowledged, in words; None: all is well."""
        said, turn = self.said[name], self.in_doubt.get(name)
        if found == said:
            return None
        if turn is not None and found[: len(said)] == said and len(found) == len(said) + 2:
            (_, asked), (_, answer) = found[len(said) :]
            if asked == turn.text and turn.answer.text.startswith(answer):
                return None
        for at, (theirs, ours) in enumerate(zip(found, said, strict=False)):
            if theirs != ours:
                return f"message {at} is {theirs} instead of {ours}"
        return f"{len(found)} messages, and {len(said)} were acknowledged"


class Shown(Exception):
    """The answer to `sessions` was an error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


async def session_client(load: Load, kept: Kept, number: int) -> None:
    """One conversation after the other, each in a session of its own; every other one through the
    library."""
    at = 0
    while load.going:
        at += 1
        name = f"talk-{number}.{at}"
        kept.said[name] = []
        talk = _through_the_library if at % 2 else _on_one_connection
        if await talk(load, kept, name) and load.chance.random() < DELETED:
            await _delete(load, kept, name)


async def _on_one_connection(load: Load, kept: Kept, name: str) -> bool:
    """True if all of it was said."""
    turns = load.chance.choice(load.oracle.conversations)
    said = kept.said[name]
    connection = await connected(load, name)
    if connection is None:
        return False
    with connection:
        while load.going and len(said) // 2 < len(turns):
            turn = turns[len(said) // 2]
            how = await _turn(load, connection, name, turn, said)
            if not await _goes_on(load, kept, name, turn, how):
                return False
    return len(said) // 2 == len(turns)


async def _through_the_library(load: Load, kept: Kept, name: str) -> bool:
    """The same with a client of its own for each turn, as `qwenctl ask --session` has."""
    turns = load.chance.choice(load.oracle.conversations)
    said = kept.said[name]
    while load.going and len(said) // 2 < len(turns):
        turn = turns[len(said) // 2]
        asked = _asked(load, turn.answer, name)
        how = LOST
        async with library(load, name) as client:
            how = await library_answer(load, client, asked, turn_of(name, turn))
        _note(asked, turn, said)
        if not await _goes_on(load, kept, name, turn, how):
            return False
    return len(said) // 2 == len(turns)


async def _goes_on(load: Load, kept: Kept, name: str, turn: Turn, how: str) -> bool:
    """False: what comes next would have another history, or nobody knows which."""
    if how in (LOST, "error:unknown_request", "error:engine_lost"):
        kept.in_doubt[name] = turn
        return False
    if how.startswith("error"):
        await load.rest(0.2)  # it is not kept: ask again
        return True
    return how in ENDED


async def _turn(load: Load, connection: RawConnection, name: str, turn: Turn, said: Said) -> str:
    """Ask, read, and note what was acknowledged; return how it ended."""
    asked = _asked(load, turn.answer, name)
    cancel_at = None
    if load.chance.random() < CANCELS:
        cancel_at = load.chance.randint(1, max(1, len(turn.answer.ids) - 1))
    await connection.send({**turn_of(name, turn), "id": 1})
    while asked.check.end is None:
        try:
            message = await load.read(connection)
        except TimeoutError:
            load.hung(asked)
            return LOST
        if message is None:
            load.ledger.lost(asked)
            return LOST
        if message.get("id") != 1:
            continue
        load.feed(asked, message)
        if cancel_at is not None and len(asked.check.ids) >= cancel_at:
            cancel_at = None
            asked.own.add(Happened.CANCELLED)
            await connection.send({"op": "cancel", "id": 1})
    load.ledger.ended(asked)
    _note(asked, turn, said)
    return asked.check.how


def _note(asked: Asked, turn: Turn, said: Said) -> None:
    """The turn is acknowledged if it ended well, or was cancelled after some text."""
    how = asked.check.how
    if how in ENDED or (how == "done:cancelled" and asked.check.text):
        said += [("user", turn.text), ("assistant", asked.check.text)]


def turn_of(name: str, turn: Turn) -> dict[str, Any]:
    """The fields of the request, but its id."""
    return {
        "op": "chat",
        "session": name,
        "messages": [{"role": "user", "content": turn.text}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0.0,
    }


def _asked(load: Load, answer: Answer, name: str) -> Asked:
    check = StreamCheck(answer, MAX_TOKENS)
    asked = Asked("chat", name, check, load.ledger.clock(), key=str(answer.ids))
    asked.own.add(Happened.IN_SESSION)
    return asked


async def _delete(load: Load, kept: Kept, name: str) -> None:
    begin = load.ledger.clock()
    connection = await connected(load, name)
    if connection is None:
        return
    with connection:
        try:
            await _sessions(connection, {"do": "delete", "name": name})
        except Shown as error:
            if error.code != "no_space" or Happened.DISK_FULL not in load.ledger.happened(
                begin, load.ledger.clock()
            ):
                load.ledger.find("unexpected", f"{name}: not deleted: {error}")
            return
        except EOFError:
            del kept.said[name]  # nobody knows whether it is there
            return
    del kept.said[name]
    kept.deleted.add(name)


async def show(connection: RawConnection, name: str) -> Said:
    """Raises: Shown for an error, EOFError at the end of the connection."""
    told = await _sessions(connection, {"do": "show", "name": name})
    return [(one["role"], one["content"]) for one in told["messages"]]


async def names(connection: RawConnection) -> set[str]:
    found: set[str] = set()
    more = True
    while more:
        told = await _sessions(connection, {"do": "list", "skip": len(found)})
        found |= {one["name"] for one in told["sessions"]}
        more = told["more"]
    return found


async def read_back(connection: RawConnection, kept: Kept) -> list[str]:
    """What is not as it was acknowledged, in words; asked of the daemon itself."""
    there = await names(connection)
    found = [f"{name} was deleted, and is there" for name in sorted(kept.deleted & there)]
    for name, said in kept.said.items():
        if not said and name not in there:
            continue
        try:
            shown = await show(connection, name)
        except Shown as error:
            found.append(f"{name}: {error}, with {len(said) // 2} turns acknowledged")
            continue
        difference = kept.difference(name, shown)
        if difference is not None:
            found.append(f"{name}: {difference}")
    return found


async def _sessions(connection: RawConnection, ask: dict[str, Any]) -> dict[str, Any]:
    await connection.send({"op": "sessions", "id": 7, **ask})
    while (message := await connection.read()) is not None:
        if message.get("id") == 7:
            if message["op"] == "error":
                raise Shown(message["code"], message["message"])
            return message
    raise EOFError


def read_from_disk(home: Path, kept: Kept) -> list[str]:
    """The same, straight from the database of a daemon that has ended."""
    files = [path for path in home.rglob("*") if path.is_file() and _is_database(path)]
    if not files:
        return ["there is no database"] if kept.turns else []
    there: dict[str, Said] = {}
    with closing(sqlite3.connect(files[0])) as database:
        for name, role, content in database.execute(MESSAGES):
            there.setdefault(name, []).append((role, content))
    differences = {name: kept.difference(name, there.get(name, [])) for name in kept.said}
    return [f"{name}, on the disk: {told}" for name, told in differences.items() if told]


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"  # sqlite.org/fileformat.html
