"""Whether somebody is there: pings, and connections on which nothing is said for seconds."""

from __future__ import annotations

import asyncio

from .load import Load, connected
from .raw_connection import RawConnection
from .survival import Happened

PING_EVERY_S = 0.25
SIT_S = 3.0


async def pinger(load: Load) -> None:
    """Whether somebody is there, four times a second."""
    nonce = 0
    while load.going:
        connection = await connected(load, "pinger")
        if connection is None:
            load.ledger.pings_lost += 1
            await load.rest(PING_EVERY_S)
            continue
        with connection:
            while load.going:
                nonce += 1
                begin = load.ledger.clock()
                await connection.send({"op": "ping", "nonce": nonce})
                if not await _ponged(load, connection, nonce, begin):
                    break
                load.ledger.pings_s.append(load.ledger.clock() - begin)
                await load.rest(PING_EVERY_S)


async def _ponged(load: Load, connection: RawConnection, nonce: int, begin: float) -> bool:
    try:
        async with asyncio.timeout(load.patience_s):
            while (message := await connection.read()) is not None:
                if message["op"] == "pong" and message["nonce"] == nonce:
                    return True
    except TimeoutError:
        load.ledger.find("hang", f"ping: no answer for {load.patience_s:.0f} s")
        return False
    if Happened.FRONT_KILLED not in load.ledger.happened(begin, load.ledger.clock()):
        load.ledger.find("broken", "ping: the connection ended")
        load.ledger.pings_lost += 1
    return False


async def sitter(load: Load, number: int) -> None:
    """Is connected and says nothing for seconds: such a connection outlives every front."""
    while load.going:
        connection = await connected(load, f"sitter {number}")
        if connection is None:
            await load.rest(0.1)
            continue
        with connection:
            quiet_since = load.ledger.clock()
            while load.going:
                await load.rest(SIT_S)
                begin = load.ledger.clock()
                await connection.send({"op": "ping", "nonce": 1})
                if await _ponged(load, connection, 1, begin):
                    quiet_since = load.ledger.clock()
                    continue
                kills = [
                    one.begin_s
                    for one in load.ledger.episodes
                    if one.what is Happened.FRONT_KILLED and one.begin_s > quiet_since - 1.0
                ]
                # Only a kill in the moment of a message is a reason.
                if not any(at < quiet_since + 0.5 or at > begin - 0.5 for at in kills):
                    load.ledger.find(
                        "broken",
                        f"sitter {number}: quiet from {quiet_since:.2f} s on, and lost by "
                        f"{begin:.2f} s; kills at {kills}",
                    )
                break
