"""One connection, as either side sees it: bytes in, events out; messages in, bytes out.

Rule 1: which message may come or go in which state is decided here.
Rule 2: this file does not know sockets, time, or requests: which ids are in use is its owner's.

Use: after each read call `receive_data` (or `receive_eof`), then `next_event` until it is None.
A daemon answers Hello by sending Welcome before it asks for the next event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qwend.errors import LocalProtocolError, RemoteProtocolError
from qwend.wire import limits
from qwend.wire.codes import CLOSING_CODES, ErrorCode
from qwend.wire.events import BadMessage, EndOfStream, Event, ProtocolFailure
from qwend.wire.frame import FrameReader, decode_payload, encode_frame
from qwend.wire.messages import parse_client, parse_daemon
from qwend.wire.notices import Error
from qwend.wire.replies import Welcome
from qwend.wire.requests import Hello
from qwend.wire.scan import check_payload
from qwend.wire.states import SENDABLE, TRANSITIONS, Message, Side, State, Step


class Connection:
    """The protocol's state for one connection. One thread at a time may use it."""

    __slots__ = ("_ended", "_reader", "_send_limit_bytes", "side", "state")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.state = State.EXPECT_HELLO
        first_bytes = limits.HELLO_FRAME_BYTES if side is Side.DAEMON else limits.FRAME_BYTES
        self._reader = FrameReader(first_bytes)
        self._send_limit_bytes = limits.FRAME_BYTES
        self._ended = False

    @classmethod
    def resumed(cls, held: bytes) -> Connection:
        """The daemon's side of a connection that another process has greeted and left open.

        held: what that process had received and not made events of; follow with `next_event`.
        """
        connection = cls(Side.DAEMON)
        connection.state = State.OPEN
        connection._reader.limit_bytes = limits.FRAME_BYTES
        connection._reader.feed(held)
        return connection

    @property
    def buffered_bytes(self) -> int:
        """Bytes received that are no event yet."""
        return len(self._reader)

    @property
    def held(self) -> bytes:
        """Those bytes, for `resumed`."""
        return self._reader.held

    def receive_data(self, data: bytes) -> None:
        """Take what was read from the peer; follow with `next_event` until None."""
        if self.state not in (State.CLOSING, State.CLOSED):
            self._reader.feed(data)

    def receive_eof(self) -> None:
        """The peer sends nothing more; follow with `next_event` until None."""
        self._ended = True

    def next_event(self) -> Event | None:
        """Return what the bytes so far say next; None if nothing more."""
        if self.state in (State.CLOSING, State.CLOSED):
            return None
        if self.side is Side.DAEMON and self.state is State.EXPECT_WELCOME:
            return None  # the hello is not answered yet: its answer decides how to read on
        try:
            payload = self._reader.next_payload()
            if payload is None:
                return self._end() if self._ended else None
            return self._receive(decode_payload(payload))
        except RemoteProtocolError as error:
            if error.fatal:
                return self._fail(error)
            return BadMessage(error)

    def events(self) -> Iterator[Event]:
        """`next_event` until None; what the loop's body sends counts for the next event."""
        while (event := self.next_event()) is not None:
            yield event

    def send(self, message: Message) -> bytes:
        """Return the bytes that carry `message` to the peer.

        A client's message is checked as the daemon will check it, so that its mistake is reported
        before the wire; `code` of the error is then the code the daemon would have answered.

        Raises: LocalProtocolError if it may not be sent now or would be refused; nothing changed.
        """
        if not isinstance(message, SENDABLE.get((self.side, self.state), ())):
            raise LocalProtocolError(
                f"the {self.side.name.lower()} may not send '{message.op}' "
                f"in state {self.state.name}"
            )
        fields = message.to_map()
        frame = encode_frame(fields, limit_bytes=self._send_limit_bytes)
        if self.side is Side.CLIENT:
            self._check_own(fields, frame)
        self._follow(message)
        return frame

    def close(self) -> None:
        """The owner has closed the transport, or is about to."""
        self._step(Step.END)
        self._reader.clear()

    def _receive(self, fields: Mapping[str, object]) -> Message:
        """Turn a map from the peer into its message. Raises: RemoteProtocolError."""
        # Before both greetings are exchanged every fault is fatal: there is no way on from it.
        greeting = self.state is not State.OPEN
        if greeting and self.side is Side.DAEMON and fields.get("op") != Hello.op:
            raise _fatal(
                f"the first message must be hello, not {str(fields.get('op'))[:60]!r}",
                ErrorCode.HELLO_FIRST,
            )
        try:
            message = self._parse(fields)
        except RemoteProtocolError as error:
            error.fatal = greeting
            raise
        peer = Side.DAEMON if self.side is Side.CLIENT else Side.CLIENT
        if not isinstance(message, SENDABLE[peer, self.state]):
            raise RemoteProtocolError(
                f"'{message.op}' may not come in state {self.state.name}: the greetings are sent "
                "once, at the start",
                code=ErrorCode.UNEXPECTED_MESSAGE.value,
                fatal=greeting,
            )
        if isinstance(message, Hello | Welcome) and message.protocol != limits.PROTOCOL:
            raise _fatal(
                f"the peer speaks {message.protocol!r}, this side {limits.PROTOCOL!r}; "
                "update the older of the two",
                ErrorCode.PROTOCOL_MISMATCH,
            )
        self._follow(message)
        return message

    def _parse(self, fields: Mapping[str, object]) -> Message:
        return parse_client(fields) if self.side is Side.DAEMON else parse_daemon(fields)

    def _follow(self, message: Message) -> None:
        """Go where `message`, sent or received, leads."""
        if isinstance(message, Hello):
            self._step(Step.HELLO)
        elif isinstance(message, Welcome):
            self._step(Step.WELCOME)
            self._reader.limit_bytes = limits.FRAME_BYTES
            self._send_limit_bytes = min(message.frame_bytes, limits.FRAME_BYTES)
        elif (
            isinstance(message, Error)
            and message.id is None
            and (message.code in CLOSING_CODES or self.state is not State.OPEN)
        ):
            self._step(Step.FAULT)

    def _check_own(self, fields: Mapping[str, object], frame: bytes) -> None:
        try:
            check_payload(frame[limits.LENGTH_BYTES :])
            parse_client(fields)
        except RemoteProtocolError as error:
            raise LocalProtocolError(str(error), code=error.code) from error

    def _end(self) -> Event:
        left = len(self._reader)
        if left:
            return self._fail(
                _fatal(f"the stream ended {left} bytes into a frame", ErrorCode.BAD_FRAME)
            )
        self._step(Step.END)
        return EndOfStream()

    def _fail(self, error: RemoteProtocolError) -> ProtocolFailure:
        self._step(Step.FAULT)
        self._reader.clear()
        return ProtocolFailure(error)

    def _step(self, step: Step) -> None:
        self.state = TRANSITIONS[self.state, step]


def _fatal(message: str, code: ErrorCode) -> RemoteProtocolError:
    return RemoteProtocolError(message, code=code.value, fatal=True)
