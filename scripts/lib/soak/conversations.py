"""Talks in sessions: every turn that was acknowledged must be there, word for word, whatever died.

Owns what was acknowledged. A turn is: its `done` came, or the daemon said later that it has it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ledger import Asked
from .load import CANCELS, Load, connected
from .oracle import Answer, Turn
from .raw_connection import RawConnection
from .stream_check import StreamCheck
from .survival import Happened

MAX_TOKENS = 200
DELETED = 0.2

MESSAGES = """SELECT name, role, content FROM message
JOIN conversation ON conversation.id = message.conversation ORDER BY conversation.id, place"""

Said = list[tuple[str, str]]
"""Role and content of each message, in order."""


@dataclass(slots=True)
class Kept:
    """What must be there at the end. deleted: what must not."""

    said: dict[str, Said] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    @property
    def turns(self) -> int:
        return sum(len(said) // 2 for said in self.said.values())


class Shown(Exception):
    """The answer to `sessions` was an error; the text is its code."""


async def session_client(load: Load, kept: Kept, number: int) -> None:
    """One conversation after the other, each in a session of its own."""
    at = 0
    while load.going:
        at += 1
        name = f"talk-{number}.{at}"
        kept.said[name] = []
        if await _conversation(load, kept, name) and load.chance.random() < DELETED:
            await _delete(load, kept, name)


async def _conversation(load: Load, kept: Kept, name: str) -> bool:
    """True if all of it was said."""
    turns = load.chance.choice(load.oracle.conversations)
    connection: RawConnection | None = None
    said = kept.said[name]
    try:
        while load.going and len(said) // 2 < len(turns):
            connection = connection or await connected(load, name)
            if connection is None:
                await load.rest(0.1)
                continue
            how = await _turn(load, connection, name, turns[len(said) // 2], said)
            if how == "lost":
                connection.close()
                connection = None
                await _look_after_it(load, name, said)
            elif how == "done:cancelled":
                return False  # the next turns would have another history
            elif how.startswith("error"):
                await load.rest(0.2)
        return len(said) // 2 == len(turns)
    finally:
        if connection is not None:
            connection.close()


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
            return "lost"
        if message is None:
            load.ledger.lost(asked)
            return "lost"
        if message.get("id") != 1:
            continue
        load.feed(asked, message)
        if cancel_at is not None and len(asked.check.ids) >= cancel_at:
            cancel_at = None
            asked.own.add(Happened.CANCELLED)
            await connection.send({"op": "cancel", "id": 1})
    load.ledger.ended(asked)
    how = asked.check.how
    if how in ("done:stop", "done:length") or (how == "done:cancelled" and asked.check.text):
        said += [("user", turn.text), ("assistant", asked.check.text)]
    return how


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
    asked = Asked("chat", name, StreamCheck(answer, MAX_TOKENS), load.ledger.clock())
    asked.own.add(Happened.IN_SESSION)
    return asked


async def _look_after_it(load: Load, name: str, said: Said) -> None:
    """The connection ended before `done`: whether the turn is kept is for the daemon to say."""
    while True:
        connection = await connected(load, name)
        if connection is not None:
            with connection:
                try:
                    found = await show(connection, name)
                except Shown as error:
                    if str(error) != "unknown_session" or said:
                        load.ledger.find("lost turn", f"{name}: {error}, with {len(said)} messages")
                    return
                except EOFError:
                    continue
            if found[: len(said)] != said or len(found) - len(said) not in (0, 2):
                load.ledger.find("lost turn", f"{name}: {_difference(found, said)}")
            said[:] = found
            return
        await asyncio.sleep(0.1)


async def _delete(load: Load, kept: Kept, name: str) -> None:
    begin = load.ledger.clock()
    connection = await connected(load, name)
    if connection is None:
        return
    with connection:
        try:
            await _sessions(connection, {"do": "delete", "name": name})
        except Shown as error:
            if str(error) != "no_space" or Happened.DISK_FULL not in load.ledger.happened(
                begin, load.ledger.clock()
            ):
                load.ledger.find("unexpected", f"{name}: not deleted: {error}")
            return
        except EOFError:
            del kept.said[name]  # nobody knows
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
        if shown != said:
            found.append(f"{name}: {_difference(shown, said)}")
    return found


async def _sessions(connection: RawConnection, ask: dict[str, Any]) -> dict[str, Any]:
    await connection.send({"op": "sessions", "id": 7, **ask})
    while (message := await connection.read()) is not None:
        if message.get("id") == 7:
            if message["op"] == "error":
                raise Shown(message["code"])
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
    return [
        f"{name}, on the disk: {_difference(there.get(name, []), said)}"
        for name, said in kept.said.items()
        if there.get(name, []) != said
    ]


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"  # sqlite.org/fileformat.html


def _difference(found: Said, said: Said) -> str:
    for at, (theirs, ours) in enumerate(zip(found, said, strict=False)):
        if theirs != ours:
            return f"message {at} is {theirs} instead of {ours}"
    return f"{len(found)} messages, and {len(said)} were acknowledged"
