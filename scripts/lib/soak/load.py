"""The clients: many kinds at once, each with its own manners, until the run is over.

Owns what they ask and how they behave. Every answer goes through a StreamCheck and ends in the
ledger. They share one event loop; the daemon cannot tell.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from qwend.client import AskedAgain, AsyncClient, ClientError, ConnectionLost, RequestFailed
from tests.wire.vectors import Refused, refused

from .ledger import Asked, Ledger
from .oracle import Oracle, Question
from .raw_connection import NotGreeted, RawConnection
from .stream_check import StreamCheck
from .survival import LOST, Happened

CANCELS = 0.10
LEAVES = 0.03
LONG = 0.35
UNKNOWN = 0.15
BUSY = 5
PING_EVERY_S = 0.25
SIT_S = 3.0


@dataclass(slots=True)
class Load:
    """slow_s: after so long of not being read the daemon may give a client up.

    patience_s: the daemon may not be silent for longer to everybody, and to nobody for BUSY times
    as long: on a busy machine a queue takes its time.
    """

    path: Path
    oracle: Oracle
    ledger: Ledger
    chance: random.Random
    slow_s: float
    patience_s: float
    over: asyncio.Event = field(default_factory=asyncio.Event)
    unknown: int = 0

    @property
    def going(self) -> bool:
        return not self.over.is_set()

    async def rest(self, seconds: float) -> None:
        """Sleep, but not beyond the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()

    def pick(self) -> Question | dict[str, Any]:
        """A question with a known answer, or a text that was never asked before."""
        dice = self.chance.random()
        if dice < UNKNOWN:
            self.unknown += 1
            prompt = f"Note {self.unknown} of {self.chance.random()}: " + "and so on " * 20
            return {"op": "complete", "prompt": prompt, "max_tokens": 40, "temperature": 0.8}
        if dice < UNKNOWN + LONG:
            return self.chance.choice(self.oracle.long_questions)
        return self.chance.choice(self.oracle.questions)

    def asked(
        self, question: Question | dict[str, Any], client: str
    ) -> tuple[dict[str, Any], Asked]:
        """The fields to send, and the request for the ledger."""
        if isinstance(question, Question):
            ask, answer = question.ask, question.answer
        else:
            ask, answer = question, None
        check = StreamCheck(answer, ask.get("max_tokens", 1 << 31))
        return ask, Asked(ask["op"], client, check, self.ledger.clock(), key=str(ask))

    async def read(self, connection: RawConnection) -> dict[str, Any] | None:
        """The next message; None at the end. Raises: TimeoutError if the daemon hangs."""
        begin = self.ledger.clock()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.patience_s):
                    return await connection.read()
            now = self.ledger.clock()
            silent = now - max(begin, self.ledger.heard_s) >= self.patience_s
            if silent or now - begin >= BUSY * self.patience_s:
                raise TimeoutError

    def feed(self, asked: Asked, message: dict[str, Any]) -> None:
        asked.heard(self.ledger.clock())
        self.ledger.heard_s = self.ledger.clock()
        asked.check.feed(message)
        if message["op"] == "token":
            self.ledger.tokens += len(message["ids"])

    def asked_again(self, asked: Asked) -> None:
        """The daemon knows the request no more: with a store for its notes it always should."""
        asked.check.begin_anew()
        self.ledger.find("broken", f"{asked.client}, {asked.op}: had to be asked again")

    def hung(self, asked: Asked) -> None:
        waited = self.ledger.clock() - max(asked.at_s, asked.heard_s)
        self.ledger.find("hang", f"{asked.client}, {asked.op}: nothing for {waited:.0f} s")


async def connected(load: Load, who: str) -> RawConnection | None:
    """A greeted connection; None if there was none, which is a finding only without a reason."""
    begin = load.ledger.clock()
    try:
        async with asyncio.timeout(load.patience_s):
            # Some clients can be told that a stream is recovering, and some cannot.
            can = load.chance.choice(((), ("recovering",)))
            return await RawConnection.open(load.path, can)
    except TimeoutError:
        load.ledger.find("hang", f"{who}: not greeted for {load.patience_s:.0f} s")
    except (NotGreeted, OSError) as error:
        # A connection without a greeting is in no store.
        if Happened.FRONT_KILLED not in load.ledger.happened(begin, load.ledger.clock()):
            load.ledger.find("broken", f"{who}: not greeted: {error}")
    return None


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
        message = await _next_message(load, connection, open_)
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


async def _next_message(
    load: Load, connection: RawConnection, open_: dict[int, Asked]
) -> dict[str, Any] | None:
    """None: the connection is over, and so is everything that was open on it."""
    try:
        message = await load.read(connection)
    except TimeoutError:
        for asked in open_.values():
            load.hung(asked)
        return None
    if message is None:
        for asked in open_.values():
            load.ledger.lost(asked)
    return message


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
        if isinstance(event, AskedAgain):  # what is kept over the front's death is to be found
            raise ConnectionLost("the daemon knew nothing of the request any more")
        load.feed(asked, event.to_map())
        if asked.cancel_at is not None and len(asked.check.ids) >= asked.cancel_at:
            asked.cancel_at = None
            asked.own.add(Happened.CANCELLED)
            await stream.cancel()
    assert stream.result is not None
    load.feed(asked, stream.result.to_map())


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
        message = await _next_message(load, connection, open_)
        if message is None:
            return False
        asked = open_.get(message.get("id", -1))
        if asked is None:
            continue
        load.feed(asked, message)
        if asked.check.end is not None:
            load.ledger.ended(open_.pop(message["id"]))
    return True


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
                message = await _next_message(load, connection, open_)
                if message is None:
                    break
                asked = open_.get(message.get("id", -1))
                if asked is None:
                    continue
                load.feed(asked, message)
                if asked.check.end is not None:
                    load.ledger.ended(open_.pop(message["id"]))
        await load.rest(load.chance.uniform(0.5, 2.0))


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
