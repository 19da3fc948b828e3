"""A session: one client's connection, from its first byte to its last.

Owns the bytes of one socket and the pace at which the client reads. Knows nothing of the engine:
requests go to the broker, and what the broker sends goes out.

A client that stops reading stops its own sequences: while its outbox is over the limit it is
`congested`, gets no more credit, and nothing more is read from it: or a flood of small requests
would fill the memory with their answers. One that stays so for `slow_reader_s` is cut off.

A connection that systemd keeps notes what another process would have to know to go on with it, and
`rest`s at a stop instead of ending (resting.py).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from qwend import __version__
from qwend.config import LimitsConfig
from qwend.daemon.access import Access
from qwend.daemon.broker import Broker, in_use
from qwend.daemon.conversation_asks import ConversationAsks
from qwend.daemon.errands import CarryOut, Errands
from qwend.daemon.identity import Identity
from qwend.daemon.journal import Timer
from qwend.daemon.kept_connection import KeptConnection
from qwend.daemon.kept_page import Record
from qwend.daemon.outbox import Outbox
from qwend.daemon.public_text import for_client
from qwend.daemon.pulls import Pulls
from qwend.daemon.resting import Resting
from qwend.daemon.turns import Turns
from qwend.daemon.understood import as_understood
from qwend.errors import LocalProtocolError, QwendError
from qwend.wire.codes import ErrorCode
from qwend.wire.connection import Connection
from qwend.wire.events import BadMessage, EndOfStream, Event, ProtocolFailure
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error, GoAway, Pong, StatusReply
from qwend.wire.orders import Drain, Load, Order, Pull, Reload, Unload
from qwend.wire.replies import Done, FinishReason, Welcome
from qwend.wire.requests import (
    Cancel,
    Chat,
    Complete,
    Credit,
    Hello,
    Ping,
    Prefill,
    Status,
    Tokenize,
)
from qwend.wire.resume import Resume
from qwend.wire.sessions import Sessions
from qwend.wire.states import Side, State
from qwend.wire.usage import Usage

log = logging.getLogger(__name__)

# What this daemon can do besides the messages themselves. Later features announce themselves here.
CAPABILITIES = (
    "chat",
    "complete",
    "prefill",
    "partial",
    "tokenize",
    "credit",
    "reasoning",
    "priority",
    "energy",
    "administration",
    "recovering",
    "resume",
    "loading",
)

# A full outbox is for the client to empty, and what its running requests say meanwhile is little;
# it is cut off where that fills so many. 1 MiB by default, after which one message may still come.
OUTBOXES = 4
# As much as the kernel holds of one connection (net.core.wmem_default is 208 KiB), so that one
# read is enough. One buffer for all: nothing stays in it.
READ_BYTES = 256 * 1024

Opening = Chat | Complete | Prefill | Tokenize | Sessions | Resume | Order
"""What opens a request."""

NOBODY = Identity(pid=0, uid=-1, gid=-1)


@dataclass(slots=True)
class Service:
    """What a session needs of the daemon. status: the map of the `status` reply, with the counts
    of this uid; None: of all.

    limits, access: those in force, replaced by a reload.
    keep: have a greeted connection outlive this process, if that can be.
    held: told when a session holds more bytes than before.
    administer: what an administrator asks for; raises QwendError if it cannot be.
    carry_out: the same for what takes time.
    """

    broker: Broker
    limits: LimitsConfig
    access: Access
    status: Callable[[int | None], Mapping[str, object]]
    administer: Callable[[Drain | Reload], None]
    carry_out: CarryOut
    welcome: Callable[[], tuple[str, int]]
    keep: Callable[[socket.socket], KeptConnection | None] = lambda connection: None
    held: Callable[[Session], None] = lambda session: None
    pulls: Pulls = field(default_factory=Pulls)
    turns: Turns = field(default_factory=Turns)
    read_buffer: bytearray = field(default_factory=lambda: bytearray(READ_BYTES), repr=False)


class Session(asyncio.BufferedProtocol):
    """on_opened, on_closed: told once each, when the connection comes and when it is gone.

    kept, record: of a connection that an earlier process has greeted.
    """

    def __init__(
        self,
        service: Service,
        on_opened: Callable[[Session], None],
        on_closed: Callable[[Session], None],
        kept: KeptConnection | None = None,
        record: Record | None = None,
    ) -> None:
        self._service = service
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._left = record
        self._connection = Connection.resumed(record.held) if record else Connection(Side.DAEMON)
        self._resting = Resting(
            kept,
            self._connection,
            self._open_ids,
            self._settle,
            may_rest=lambda: service.broker.continuity.may_leave(self),
            at_rest=lambda: service.broker.continuity.leave(self),
        )
        self._asks = ConversationAsks(service.broker.conversations, self)
        self._errands = Errands(service.carry_out, self)
        self._capabilities = record.capabilities if record else ()
        self._transport: asyncio.Transport | None = None
        self._timer: Timer | None = None
        self._outbox = Outbox()
        self._identity = NOBODY
        self._cut_off = False
        self.congested = False

    @property
    def uid(self) -> int:
        return self._identity.uid

    @property
    def administers(self) -> bool:
        return self._service.access.administers(self._identity)

    @property
    def held_bytes(self) -> int:
        """What waits to be read by the client, or for the rest of a message of its."""
        if self._cut_off:  # it will be gone in the next turn of the loop
            return 0
        unread = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return unread + len(self._outbox) + self._connection.buffered_bytes

    @property
    def page(self) -> int:
        """Where the next front finds what is noted of it; 0: nowhere."""
        return 0 if self._resting.kept is None else self._resting.kept.number

    @property
    def kept(self) -> bool:
        """The connection outlives this process."""
        return self._resting.kept is not None

    @property
    def rested(self) -> asyncio.Event:
        """Set once `rest` is reached, or the connection is gone."""
        return self._resting.rested

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._identity = Identity.of(transport.get_extra_info("socket"))
        transport.set_write_buffer_limits(high=self._service.limits.outbox_bytes)
        if self._left is None:
            limit_s = self._service.limits.hello_timeout_s
            self._timer = asyncio.get_running_loop().call_later(limit_s, self._hello_late, limit_s)
        self._on_opened(self)
        if self._left is not None:
            self._go_on(self._left)

    def get_buffer(self, sizehint: int) -> bytearray:
        # Called right before the read: from here on bytes may be ours alone.
        self._resting.reading()
        return self._service.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        with memoryview(self._service.read_buffer) as view:
            self._connection.receive_data(bytes(view[:nbytes]))
        self._handle_events()
        self._service.held(self)

    def eof_received(self) -> bool:
        self._connection.receive_eof()
        self._handle_events()
        return False  # asyncio closes the transport

    def pause_writing(self) -> None:
        assert self._transport is not None
        self.congested = True
        self._transport.pause_reading()
        self._restart_timer(self._service.limits.slow_reader_s, self._too_slow)

    def resume_writing(self) -> None:
        self.congested = False
        self._stop_timer()
        self._service.broker.resume(self)
        self._handle_events()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        if self._resting.end() and self._transport is not None and self.kept:
            with suppress(OSError):  # an end that the client sees, whatever copies there are
                self._transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._transport = None
        self._connection.close()
        self._drop()
        self._on_closed(self)

    # Owner

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        most = OUTBOXES * self._service.limits.outbox_bytes
        if self.congested and self.held_bytes > most:
            self.cut_off(f"the connection's outbox grew over {most} bytes unread")
            return
        if isinstance(message, Error):
            message = for_client(message, administers=self.administers)
        told = as_understood(message, self._capabilities)
        if told is None:
            if then is not None:
                then()
            return
        try:
            frame = self._connection.send(told)
        except LocalProtocolError as error:
            # A fault of ours must not take the other clients with it.
            log.error("cannot send %s: %s", message.op, error)
            self._transport.abort()
            return
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self.flush)
        self._outbox.add(message, frame, then)
        if self._outbox.in_doubt:
            self._resting.writing()

    def flush(self) -> None:
        """Write what has been sent since the last turn of the loop."""
        if self._outbox and self._transport is not None:
            self._resting.writing()
            if self._outbox.ending:
                self._resting.changed()
            self._transport.write(self._outbox.take())
            self._settle()
            self._service.held(self)

    def close(self) -> None:
        """Close once what is in the outbox has been read."""
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now; what is in the outbox is lost."""
        if self._transport is not None:
            self._transport.abort()

    def cut_off(self, why: str) -> None:
        """End the connection and its requests: the client does not read what it asked for."""
        log.info("uid %d is cut off: %s", self.uid, why)
        self._cut_off = True
        self.abort()  # first: what nobody reads is not to grow by what the requests end with
        self._service.broker.fail_all(self, ErrorCode.SLOW_CONSUMER, why)

    def turn_away(self, error: Error) -> None:
        """Refuse the connection as a whole, before anything was said."""
        self.send(error)
        self.close()

    def say_goodbye(self, reason: str, message: str) -> None:
        if self._connection.state is State.OPEN:
            self.send(GoAway(reason, message))

    def rest(self) -> None:
        """Of a kept connection: once nothing is under way on it, leave what comes, and what its
        requests still produce, to the next process."""
        self._resting.want()
        self._settle()

    def _go_on(self, left: Record) -> None:
        """Where an earlier process was; what it has not noted is lost."""
        noted = self._service.broker.continuity.left_on(self.page, self.uid)
        for client_id in left.open:
            if client_id in noted:
                self._service.broker.continuity.reopen(self, noted[client_id])
                continue
            self.send(
                Error(
                    ErrorCode.ENGINE_LOST,
                    "the daemon was restarted while it answered, and cannot go on with it (perhaps "
                    "its model was changed); send it again",
                    id=client_id,
                )
            )
        self._resting.changed()
        self._handle_events()

    def _handle_events(self) -> None:
        self._handle_some_events()
        self._settle()

    def _handle_some_events(self) -> None:
        """Handle what has come, a turn of it at a time, and read on when it is done."""
        turns = self._service.turns
        while turns.left(self.uid):
            if self.rested.is_set() or self.congested:
                return
            if self._transport is None or self._transport.is_closing():
                return
            event = self._connection.next_event()
            if event is None:
                self._transport.resume_reading()
                return
            turns.take(self.uid)
            self._handle(event)
        if self._transport is not None:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._handle_events)

    def _handle(self, event: Event) -> None:
        broker = self._service.broker
        if isinstance(event, Opening):
            self._resting.changed()
            if self._is_open(event.id):
                self.send(in_use(event.id))
                return
        match event:
            case Chat() | Complete() | Prefill() | Tokenize():
                broker.submit(self, event)
            case Sessions():
                self._asks.take(event)
            case Resume():
                broker.continuity.take_up(self, event)
            case Credit():
                broker.allow(self, event.id, event.tokens)
            case Cancel():
                order = self._errands.cancel(event.id) or self._service.pulls.cancel(self, event.id)
                if not order:
                    broker.cancel(self, event.id)
            case Ping():
                self.send(Pong(event.nonce))
            case Status():
                self.send(StatusReply(self._service.status(None if self.administers else self.uid)))
            case Drain() | Reload() | Load() | Unload() | Pull():
                self._take_order(event)
            case Hello():
                self._capabilities = tuple(one for one in CAPABILITIES if one in event.capabilities)
                self._greet()
            case BadMessage():
                self.send(event.answer())
            case ProtocolFailure():
                log.info("uid %d broke the protocol: %s", self.uid, event.error.code)
                self.send(event.answer())
                self._end()
            case EndOfStream():
                self._end()

    def _greet(self) -> None:
        self._stop_timer()
        model, context = self._service.welcome()
        if self._transport is not None:
            self._resting.kept = self._service.keep(self._transport.get_extra_info("socket"))
        capabilities = CAPABILITIES + self._service.broker.conversations.capabilities
        if self.administers:
            capabilities += self._service.pulls.capabilities
        self.send(Welcome(f"qwend {__version__}", model, context, capabilities))

    def _take_order(self, asked: Order) -> None:
        """Have it carried out, if this is an administrator."""
        if not self.administers:
            self.send(_for_administrators(asked))
            return
        log.info("uid %d asks for %s", self.uid, asked.op)
        if isinstance(asked, Drain | Reload):
            self.send(self._administered(asked))
        elif isinstance(asked, Pull):
            self._service.pulls.take(self, asked)
        else:
            self._errands.take(asked)

    def _administered(self, asked: Drain | Reload) -> Done | Error:
        """The answer, once it is done."""
        try:
            self._service.administer(asked)
        except QwendError as error:
            return Error(ErrorCode.INVALID_VALUE, str(error), id=asked.id)
        reason: FinishReason = "drained" if isinstance(asked, Drain) else "reloaded"
        return Done(asked.id, reason, Usage(0, 0, 0))

    def _is_open(self, client_id: int) -> bool:
        journal = self._service.broker.journal
        return client_id in self._others or journal.of_client(self, client_id) is not None

    @property
    def _others(self) -> tuple[int, ...]:
        """Ids of what is open besides requests of the model."""
        pulls = self._service.pulls.open_ids(self)
        return (*self._asks.open_ids, *self._errands.open_ids, *pulls)

    def _settle(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._resting.settle(
                self._transport,
                self._capabilities,
                outgoing=bool(self._outbox),
                in_doubt=self._outbox.in_doubt,
            )

    def _open_ids(self) -> tuple[int, ...]:
        entries = self._service.broker.journal.of_owner(self)
        return (*(one.client_id for one in entries), *self._others, *self._outbox.ending)

    def _end(self) -> None:
        """The client will say nothing more: nobody waits for its requests, whether or not what is
        in the outbox will ever be read."""
        self._drop()
        self.close()

    def _drop(self) -> None:
        """Nobody waits for what is open."""
        self._service.broker.drop(self)
        self._service.pulls.drop(self)
        self._errands.drop()

    def _hello_late(self, limit_s: float) -> None:
        self.turn_away(
            Error(ErrorCode.HELLO_TIMEOUT, f"no hello within {limit_s:g} s of connecting")
        )

    def _too_slow(self) -> None:
        limit_s = self._service.limits.slow_reader_s
        self.cut_off(f"the connection's outbox was full and unread for {limit_s:g} s")

    def _restart_timer(self, delay_s: float, action: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _for_administrators(asked: Order) -> Error:
    return Error(
        ErrorCode.FORBIDDEN,
        f"{asked.op} is for administrators: root, the daemon's own user, and the members of "
        "admin_group under [socket]",
        id=asked.id,
    )
