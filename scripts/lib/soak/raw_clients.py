"""Clients with frames of their own: they ask, type ahead, read slowly, and lose their connection.

Owns their manners; they know no library.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .ledger import Asked
from .load import CANCELS, Load, connected, next_message
from .raw_connection import RawConnection
from .survival import Happened

# Of all rounds: leave in the middle.
LEAVES = 0.03


async def raw_client(load: Load, number: int) -> None:
    """Connections of a few rounds, with one to three requests side by side in each."""
    while load.going:
        connection = await connected(load, f"raw {number}")
        if connection is None:
            await load.rest(0.1)
            continue
        with connection:
            for at in range(load.chance.randint(2, 8)):
                if not load.going or not await _raw_round(
                    load, connection, f"raw {number}", 10 * at
                ):
                    break
                await load.rest(load.chance.uniform(0.0, 0.3))


async def _raw_round(load: Load, connection: RawConnection, who: str, first_id: int) -> bool:
    """False: the connection is not to be used any more."""
    open_: dict[int, Asked] = {}
    cancel_at: dict[int, int] = {}
    for id_ in range(first_id, first_id + load.chance.randint(1, 3)):
        ask, open_[id_] = load.asked(load.pick(), who)
        if load.chance.random() < CANCELS:
            cancel_at[id_] = load.chance.randint(0, 60)
        await connection.send({**ask, "id": id_})
    leave_at = load.chance.randint(0, 50) if load.chance.random() < LEAVES else None
    while open_:
        for id_, tokens in list(cancel_at.items()):
            if id_ in open_ and len(open_[id_].check.ids) >= tokens:
                del cancel_at[id_]
                open_[id_].own.add(Happened.CANCELLED)
                await connection.send({"op": "cancel", "id": id_})
        message = await next_message(load, connection, open_)
        if message is None:
            return False
        asked = open_.get(message.get("id", -1))
        if asked is None:
            if message["op"] != "goaway":
                load.ledger.find("wrong", f"{who}: nobody asked for {message}")
            continue
        load.feed(asked, message)
        if asked.check.end is not None:
            load.ledger.ended(open_.pop(message["id"]))
        elif leave_at is not None and len(asked.check.ids) >= leave_at:
            for one in open_.values():
                one.own.add(Happened.ABANDONED)
                load.ledger.ended(one)
            return False
    return True


async def typist(load: Load) -> None:
    """Types a question: a prefill at each pause, the former one cancelled, then the chat."""
    while load.going:
        connection = await connected(load, "typist")
        if connection is None:
            await load.rest(0.1)
            continue
        with connection:
            while load.going and await _typed(load, connection):
                await load.rest(0.2)


async def _typed(load: Load, connection: RawConnection) -> bool:
    chats = [one for one in load.oracle.questions if one.ask["op"] == "chat"]
    question = load.chance.choice(chats)
    text = question.ask["messages"][0]["content"]
    open_: dict[int, Asked] = {}
    pauses = range(4, len(text), max(4, len(text) // 3))
    for id_, end in enumerate(pauses):
        if open_:
            open_[id_ - 1].own.add(Happened.CANCELLED)
            await connection.send({"op": "cancel", "id": id_ - 1})
        messages = [{"role": "user", "content": text[:end]}]
        ask, open_[id_] = load.asked(
            {"op": "prefill", "messages": messages, "partial": True}, "typist"
        )
        await connection.send({**ask, "id": id_})
        await asyncio.sleep(load.chance.uniform(0.01, 0.15))
    ask, open_[100] = load.asked(question, "typist")
    await connection.send({**ask, "id": 100})
    while open_:
        message = await next_message(load, connection, open_)
        if message is None:
            return False
        asked = open_.get(message.get("id", -1))
        if asked is None:
            continue
        load.feed(asked, message)
        if asked.check.end is not None:
            load.ledger.ended(open_.pop(message["id"]))
    return True


async def slow_reader(load: Load, number: int) -> None:
    """Asks for much and does not read it for a while; sometimes for so long that it is given up."""
    who = f"slow {number}"
    while load.going:
        connection = await connected(load, who)
        if connection is None:
            await load.rest(0.1)
            continue
        with connection:
            open_: dict[int, Asked] = {}
            for id_ in range(3):
                ask, open_[id_] = load.asked(load.chance.choice(load.oracle.long_questions), who)
                open_[id_].own.add(Happened.SLOW)
                await connection.send({**ask, "id": id_})
            await load.rest(load.slow_s * load.chance.choice((0.3, 0.6, 2.0)))
            while open_:
                message = await next_message(load, connection, open_)
                if message is None:
                    break
                asked = open_.get(message.get("id", -1))
                if asked is None:
                    continue
                load.feed(asked, message)
                if asked.check.end is not None:
                    load.ledger.ended(open_.pop(message["id"]))
        await load.rest(load.chance.uniform(0.5, 2.0))


async def wanderer(load: Load) -> None:
    """Loses its connection in the middle of an answer, and goes on with it over another."""
    who = "wanderer"
    while load.going:
        ask, asked = load.asked(load.chance.choice(load.oracle.long_questions), who)
        key = f"{load.chance.getrandbits(64):016x}"
        first: dict[str, Any] = {**ask, "id": 1, "resume": key}
        while asked.check.end is None:
            connection = await connected(load, who)
            if connection is None:
                await load.rest(0.1)
                continue
            with connection:
                await connection.send(first)
                told = await _until_it_goes(load, connection, asked)
            if told is TimeoutError:
                break
            heard = {"from": len(asked.check.ids), "text_chars": len(asked.check.text)}
            first = {"op": "resume", "id": 1, "key": key, **heard}
            asked.check.resumed()
        load.ledger.ended(asked, "" if asked.check.end else "hang")
        await load.rest(load.chance.uniform(0.0, 0.5))


async def _until_it_goes(load: Load, connection: RawConnection, asked: Asked) -> object:
    """Read to the end, or so many tokens further, or as long as the connection lasts."""
    leave_at = len(asked.check.ids) + load.chance.randint(20, 300)
    try:
        while asked.check.end is None and len(asked.check.ids) < leave_at:
            message = await load.read(connection)
            if message is None:
                return None
            if message.get("id") == 1:
                load.feed(asked, message)
    except TimeoutError:
        load.hung(asked)
        return TimeoutError
    return None
