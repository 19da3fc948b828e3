"""Everybody who takes part beside those who talk in sessions, and those who mean no good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from tests.wire.vectors import Refused, refused

from .library_clients import library_client
from .load import Load, connected
from .presence import pinger, sitter
from .raw_clients import raw_client, slow_reader, typist, wanderer
from .raw_connection import RawConnection
from .survival import Happened


async def hostile_client(load: Load) -> None:
    """Sends what is refused, from docs/protocol.md, and looks whether it is."""
    vectors = refused()
    while load.going:
        connection = await connected(load, "hostile")
        if connection is not None:
            with connection:
                await _refused(load, connection, load.chance.choice(vectors))
        await load.rest(load.chance.uniform(0.1, 0.4))


async def _refused(load: Load, connection: RawConnection, vector: Refused) -> None:
    begin = load.ledger.clock()
    await connection.send_bytes(vector.frame)
    try:
        async with asyncio.timeout(load.patience_s):
            told = await connection.read()
    except TimeoutError:
        load.ledger.find("hang", f"hostile: no answer to {vector}")
        return
    if told is None:
        if Happened.FRONT_KILLED not in load.ledger.happened(begin, load.ledger.clock()):
            load.ledger.find("broken", f"hostile: closed without a word after {vector}")
    elif told["op"] != "goaway" and told.get("code") != vector.code:
        load.ledger.find("wrong", f"hostile: {told} to {vector}")


Client = Callable[[Load], Awaitable[None]]


def clients() -> list[Client]:
    """Everybody who takes part, beside those who talk in sessions."""
    many = ((raw_client, 4), (library_client, 2), (sitter, 3), (slow_reader, 1))
    return [
        *(partial(run, number=at) for run, count in many for at in range(count)),
        typist,
        wanderer,
        hostile_client,
        pinger,
    ]
