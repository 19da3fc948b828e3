"""Programs that use the library as the documentation says. It reconnects and resumes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qwend.client import AskedAgain, AsyncClient, ClientError, RequestFailed

from .ledger import Asked
from .load import BUSY, CANCELS, Load
from .survival import LOST, Happened


async def library_client(load: Load, number: int) -> None:
    """A program that uses the library as docs say, with two answers at once."""
    who = f"library {number}"
    while load.going:
        async with library(load, who) as client:
            for _ in range(load.chance.randint(2, 8)):
                asks = [load.asked(load.pick(), who) for _ in range(2)]
                for _, asked in asks:
                    cancels = load.chance.random() < CANCELS
                    asked.cancel_at = load.chance.randint(0, 60) if cancels else None
                hows = await asyncio.gather(
                    *(library_answer(load, client, asked, ask) for ask, asked in asks)
                )
                if LOST in hows or not load.going:
                    break


@asynccontextmanager
async def library(load: Load, who: str) -> AsyncIterator[AsyncClient]:
    """A client of the library. One that cannot connect is a finding."""
    begin = load.ledger.clock()
    try:
        async with AsyncClient(load.path, timeout_s=BUSY * load.patience_s) as client:
            yield client
    except ClientError as error:
        if Happened.FRONT_KILLED not in load.ledger.happened(begin, load.ledger.clock()):
            load.ledger.find("broken", f"{who}: {error}")
        await load.rest(0.1)


async def library_answer(load: Load, client: AsyncClient, asked: Asked, ask: dict[str, Any]) -> str:
    """Read an answer to its end, and return how it ended."""
    asked.own.add(Happened.LIBRARY)
    try:
        await _read_library(load, client, asked, ask)
    except RequestFailed as error:
        load.feed(asked, {"op": "error", "code": error.code, "message": str(error)})
    except ClientError as error:
        asked.last_words = str(error)
        load.ledger.lost(asked)
        return LOST
    load.ledger.ended(asked)
    return asked.check.how


async def _read_library(load: Load, client: AsyncClient, asked: Asked, ask: dict[str, Any]) -> None:
    given = {key: value for key, value in ask.items() if key not in ("op", "messages", "prompt")}
    if ask["op"] == "chat":
        stream = await client.chat(ask["messages"], **given)
    else:
        stream = await client.complete(ask["prompt"], **given)
    async for event in stream.events():
        if isinstance(event, AskedAgain):
            load.asked_again(asked)
            continue
        load.feed(asked, event.to_map())
        if asked.cancel_at is not None and len(asked.check.ids) >= asked.cancel_at:
            asked.cancel_at = None
            asked.own.add(Happened.CANCELLED)
            await stream.cancel()
    assert stream.result is not None
    load.feed(asked, stream.result.to_map())
