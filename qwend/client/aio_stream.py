"""An answer as the asyncio client's user reads it.

Rule 1: reading, ending and giving up one request are here.
Rule 2: this file does not know how bytes arrive, nor how the request was made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from qwend.client.aio_channel import AsyncChannel, AsyncInbox
from qwend.client.answering import Answering
from qwend.client.errors import ClientError
from qwend.wire import Accepted, Cancel, Credit, Done, Progress, Token


class AsyncTokenStream:
    """The answer to one request: `async for` its tokens, then see `result`.

    As an async context manager, or with `close`, leaving it early cancels the request.
    Reading raises RequestFailed or ConnectionLost. One task at a time may read it.
    """

    def __init__(self, channel: AsyncChannel, inbox: AsyncInbox, answering: Answering) -> None:
        self._channel = channel
        self._inbox = inbox
        self._answering = answering
        self._over = False

    @property
    def text(self) -> str:
        """The answer as far as it was read."""
        return self._answering.text

    @property
    def reasoning(self) -> str:
        """What the model said to itself, as far as it was read; no part of `text`."""
        return self._answering.reasoning

    @property
    def accepted(self) -> Accepted | None:
        return self._answering.accepted

    @property
    def result(self) -> Done | None:
        """How it ended; None until the last token was read."""
        return self._answering.result

    async def events(self) -> AsyncIterator[Accepted | Progress | Token]:
        """Everything that comes before the end, for those who show what they wait for."""
        while not self._over:
            try:
                answer = await self._channel.receive(self._inbox, at_once=False)
                self._answering.follow(answer)
            except ClientError:
                self._over = True
                raise
            if isinstance(answer, Done):
                self._over = True
            elif isinstance(answer, Accepted | Progress | Token):
                yield answer
                if credit := self._answering.due_credit():
                    await self.grant(credit)

    async def __aiter__(self) -> AsyncIterator[Token]:
        async for event in self.events():
            if isinstance(event, Token):
                yield event

    async def wait(self) -> Done:
        """Read to the end; return how it ended."""
        async for _ in self.events():
            pass
        if self.result is None:
            raise self._channel.session.lost or ValueError("this stream has been closed")
        return self.result

    async def grant(self, tokens: int) -> None:
        """Allow `tokens` more; needed only for a request made with credit=0."""
        if not self._over:
            await self._channel.send(
                self._channel.session.about(Credit(self._answering.id, tokens))
            )

    async def cancel(self) -> None:
        """Ask the daemon to stop; what was on its way can still be read, `result` last."""
        if not self._over:
            await self._channel.send(self._channel.session.about(Cancel(self._answering.id)))

    async def close(self) -> None:
        """Stop reading; the daemon is told to stop if it had not ended. May be called again."""
        if not self._over:
            self._over = True
            await self._channel.send(self._channel.session.abandon(self._answering.id))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
