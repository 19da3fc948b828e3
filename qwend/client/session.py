"""The client's side of one connection: which answer belongs to whom. Sans-IO, as the wire.

Rule 1: ids are given out here, and every message from the daemon finds its inbox here.
Rule 2: this file does not know sockets, threads or event loops; both clients are glue around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from qwend.client.errors import (
    ClientError,
    ConnectionLost,
    DaemonUnreachable,
    PermissionDenied,
    RequestFailed,
)
from qwend.errors import LocalProtocolError
from qwend.wire import (
    CLOSING_CODES,
    Accepted,
    BadMessage,
    Cancel,
    Chat,
    ClientMessage,
    Complete,
    Connection,
    Done,
    Error,
    Event,
    GoAway,
    Hello,
    Ping,
    Pong,
    Progress,
    ProtocolFailure,
    Resume,
    SessionsReply,
    Side,
    Status,
    StatusReply,
    Token,
    Welcome,
)

# What this client can take beyond what every client must (docs/protocol.md).
CAPABILITIES = ("reasoning", "energy", "recovering", "loading")

Answer = Accepted | Progress | Token | Done | Error | SessionsReply | StatusReply | Pong


class Inbox:
    """What has come for one waiter and was not taken yet; `wake` is called after each change."""

    __slots__ = ("messages", "wake")

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        self.messages: deque[Answer] = deque()
        self.wake = wake


class Session:
    """Messages out become bytes, bytes in become answers in inboxes.

    `receive` what was read, `end` when the transport is gone; `take` what came for an inbox.
    """

    __slots__ = (
        "_connection",
        "_inboxes",
        "_last_error",
        "_lasting",
        "_next_id",
        "_path",
        "_pongs",
        "_statuses",
        "goaway",
        "lost",
        "welcome",
    )

    def __init__(self, path: Path) -> None:
        self.welcome: Welcome | None = None
        self.goaway: GoAway | None = None
        self.lost: ClientError | None = None
        """Why nothing more will come; it is raised to whoever waits."""
        self._path = path
        self._connection = Connection(Side.CLIENT)
        # None: the request was abandoned, but its end has not come yet.
        self._inboxes: dict[int, Inbox | None] = {}
        self._pongs: dict[int, Inbox] = {}
        self._statuses: deque[Inbox] = deque()
        self._lasting: set[int] = set()
        self._next_id = 0
        self._last_error: Error | None = None

    def hello(self, client: str) -> bytes:
        return self._send(Hello(client=client, capabilities=CAPABILITIES))

    def request(self, build: Callable[[int], ClientMessage], inbox: Inbox) -> tuple[int, bytes]:
        """Open a request: return its id and the bytes to send; its answers come to `inbox`.

        Raises: RequestFailed if the daemon would refuse it anyway, or the connection's loss.
        """
        request_id = self._next_id
        message = build(request_id)
        data = self._send(message)
        self._next_id += 1
        keyed = isinstance(message, Chat | Complete) and message.generation.resume is not None
        if keyed or isinstance(message, Resume):
            self._lasting.add(request_id)
        self._inboxes[request_id] = inbox
        return request_id, data

    def about(self, message: ClientMessage) -> bytes:
        """Return the bytes of a message about an open request: cancel or credit."""
        return self._send(message)

    def abandon(self, request_id: int) -> bytes:
        """Cancel a request that nobody waits for any more; drop what still comes for it."""
        if self.lost or request_id not in self._inboxes:
            return b""
        self._inboxes[request_id] = None
        return self._send(Cancel(request_id))

    def abandon_lasting(self) -> bytes:
        """Cancel what would wait for another connection; all else ends with this one. Who reads it
        is still told of the connection's end."""
        if self.lost:
            return b""
        return b"".join(self._send(Cancel(one)) for one in self._inboxes if one in self._lasting)

    def status(self, inbox: Inbox) -> bytes:
        data = self._send(Status())
        self._statuses.append(inbox)
        return data

    def ping(self, inbox: Inbox) -> bytes:
        nonce = self._next_id
        data = self._send(Ping(nonce))
        self._next_id += 1
        self._pongs[nonce] = inbox
        return data

    def take(self, inbox: Inbox) -> Answer | None:
        """Return the next answer in `inbox`, None if more must be received first.

        Raises: RequestFailed for an error answer, or the connection's loss once all else is taken.
        """
        if not inbox.messages:
            if self.lost:
                raise self.lost
            return None
        answer = inbox.messages.popleft()
        if isinstance(answer, Error):
            raise RequestFailed(answer.code, answer.message, answer.retry_after_s)
        return answer

    def receive(self, data: bytes) -> None:
        """Sort what was read into the inboxes; no bytes mean that the daemon has closed."""
        if data:
            self._connection.receive_data(data)
        else:
            self._connection.receive_eof()
        for event in self._connection.events():
            self._sort(event)
        if not data:
            self.end(self._loss("the daemon closed the connection"))

    def end(self, error: ClientError) -> None:
        """Nothing more will come: everybody who waits gets `error`. The first reason stays."""
        if self.lost is None:
            self.lost = error
            self._connection.close()
        for inbox in (*self._inboxes.values(), *self._pongs.values(), *self._statuses):
            if inbox is not None:
                inbox.wake()

    def _sort(self, event: Event) -> None:
        if isinstance(event, Accepted | Progress | Token):
            self._deliver(event, self._inboxes.get(event.id))
        elif isinstance(event, Done | SessionsReply):
            self._deliver(event, self._inboxes.pop(event.id, None))
        elif isinstance(event, Error):
            self._sort_error(event)
        elif isinstance(event, Pong):
            self._deliver(event, self._pongs.pop(event.nonce or 0, None))
        elif isinstance(event, StatusReply):
            self._deliver(event, self._statuses.popleft() if self._statuses else None)
        elif isinstance(event, Welcome):
            self.welcome = event
        elif isinstance(event, GoAway):
            self.goaway = event
        elif isinstance(event, BadMessage | ProtocolFailure):
            self.end(self._loss(f"the daemon sent what this client cannot read: {event.error}"))

    def _deliver(self, answer: Answer, inbox: Inbox | None) -> None:
        if inbox is not None:
            inbox.messages.append(answer)
            inbox.wake()

    def _sort_error(self, error: Error) -> None:
        if error.id is not None:
            self._deliver(error, self._inboxes.pop(error.id, None))
        elif self.welcome is None:
            self.end(self._refusal(error))
        else:
            self._last_error = error
            if error.code in CLOSING_CODES:
                self.end(self._loss("the daemon ended the connection"))

    def _refusal(self, error: Error) -> ClientError:
        if error.code == "forbidden":
            return PermissionDenied(self._path, error.message)
        return RequestFailed(error.code, error.message, error.retry_after_s)

    def _loss(self, what: str) -> ClientError:
        if self._last_error is not None:
            what = f"{what}: {self._last_error.message} ({self._last_error.code})"
        elif self.goaway is not None:
            what = f"{what}: {self.goaway.message}"
        if self.welcome is None:
            return DaemonUnreachable(self._path, f"{what} before it said welcome")
        return ConnectionLost(what)

    def _send(self, message: ClientMessage) -> bytes:
        if self.lost:
            raise self.lost
        try:
            return self._connection.send(message)
        except LocalProtocolError as error:
            raise RequestFailed(error.code, str(error)) from error
