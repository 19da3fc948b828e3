"""An answer as the blocking client's user reads it.

Rule 1: reading, ending and giving up one request are here.
Rule 2: this file does not know how bytes arrive, nor how the request was made.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from qwend.client.answering import Answering, AskedAgain
from qwend.client.channel import Channel
from qwend.client.errors import ClientError, ConnectionLost, RequestFailed
from qwend.client.recovery import Recovery
from qwend.client.session import Answer, Inbox
from qwend.wire import Accepted, Cancel, Credit, Done, Progress, Token


class TokenStream:
    """The answer to one request: iterate for its tokens, then see `result`.

    As a context manager, or with `close`, leaving it early cancels the request.
    Reading raises RequestFailed or ConnectionLost.
    """

    def __init__(
        self,
        channel: Channel,
        inbox: Inbox,
        answering: Answering,
        recovery: Recovery | None = None,
    ) -> None:
        """recovery: None for a request that ends with its connection."""
        self._channel = channel
        self._inbox = inbox
        self._answering = answering
        self._recovery = recovery
        self._connection = channel.number
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

    def events(self) -> Iterator[Accepted | Progress | Token | AskedAgain]:
        """Everything that comes before the end, for those who show what they wait for.

        Of an answer that was gone on with over another connection nothing comes twice. One that
        had to be asked again begins with AskedAgain, and its tokens at index 0.
        """
        while not self._over:
            try:
                answer = self._next()
                if isinstance(answer, AskedAgain):
                    yield answer
                    continue
                known = isinstance(answer, Accepted) and self._answering.accepted is not None
                self._answering.follow(answer)
                if known:
                    continue
            except ClientError:
                self._over = True
                raise
            if isinstance(answer, Done):
                self._over = True
            elif isinstance(answer, Accepted | Progress | Token):
                yield answer
                if credit := self._answering.due_credit():
                    self.grant(credit)

    def _next(self) -> Answer | AskedAgain:
        """What comes next, over this connection or the one after it."""
        while True:
            try:
                if self._connection != self._channel.number and not self._inbox.messages:
                    self._resume()
                return self._channel.receive(self._inbox, at_once=False)
            except ConnectionLost as lost:
                recovery = self._recovery
                if recovery is None or not recovery.worth_a_try(self._answering.tokens):
                    raise
                self._channel.renew(self._connection, lost)
            except RequestFailed as error:
                if error.code != "unknown_request" or self._recovery is None:
                    raise
                heard = self._answering.tokens or self._answering.text
                self._ask_again(self._recovery)
                if heard:
                    return AskedAgain()

    def _is_connected(self) -> bool:
        """Its id is known over the connection that there is; after another it is made so."""
        if self._connection != self._channel.number and self._recovery is not None:
            self._resume()
        return self._connection == self._channel.number

    def _resume(self) -> None:
        recovery, answering = self._recovery, self._answering
        if recovery is None:
            raise ConnectionLost("the connection that this was asked over is lost")
        self._inbox = Inbox()
        answering.id, data = self._channel.session.request(
            lambda id_: recovery.resume(id_, answering), self._inbox
        )
        self._connection = self._channel.number
        self._channel.send(data)

    def _ask_again(self, recovery: Recovery) -> None:
        recovery.ask_again()
        self._inbox = Inbox()
        request_id, data = self._channel.session.request(recovery.request, self._inbox)
        self._answering.begin_anew(request_id)
        self._connection = self._channel.number
        self._channel.send(data)

    def __iter__(self) -> Iterator[Token]:
        return (event for event in self.events() if isinstance(event, Token))

    def wait(self) -> Done:
        """Read to the end; return how it ended."""
        for _ in self.events():
            pass
        if self.result is None:
            raise self._channel.session.lost or ValueError("this stream has been closed")
        return self.result

    def grant(self, tokens: int) -> None:
        """Allow `tokens` more; needed only for a request made with credit=0."""
        if not self._over and self._is_connected():
            self._channel.send(self._channel.session.about(Credit(self._answering.id, tokens)))

    def cancel(self) -> None:
        """Ask the daemon to stop; what was on its way can still be read, `result` last."""
        if not self._over and self._is_connected():
            self._channel.send(self._channel.session.about(Cancel(self._answering.id)))

    def close(self) -> None:
        """Stop reading; the daemon is told to stop if it had not ended. May be called again."""
        if not self._over:
            self._over = True
            if self._is_connected():
                self._channel.send(self._channel.session.abandon(self._answering.id))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
