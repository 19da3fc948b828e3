"""What all clients of the load share: what to ask, how to connect and read, and when to end.

Owns the share of each kind of question. Every answer goes through a StreamCheck and ends in the
ledger.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .ledger import Asked, Ledger
from .oracle import Oracle, Question
from .raw_connection import NotGreeted, RawConnection
from .stream_check import StreamCheck
from .survival import Happened

# Of all requests.
CANCELS = 0.10
LONG = 0.35
UNKNOWN = 0.15
BUSY = 5


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


async def next_message(
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
