"""The open connections: accepted from the listener, counted per uid, told when it is over.

Owns the sessions. A connection beyond a limit is answered `busy` and closed. One that systemd keeps
is taken over from the process before us, and left to the next.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from qwend.config import LimitsConfig
from qwend.daemon.kept_connection import ConnectionKeeper, KeptConnection
from qwend.daemon.kept_page import Doubt, Record
from qwend.daemon.listener import BACKLOG
from qwend.daemon.session import Service, Session
from qwend.wire.codes import ErrorCode
from qwend.wire.frame import encode_frame
from qwend.wire.notices import Error, GoAway

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0


class Clients:
    def __init__(self, service: Service, limits: LimitsConfig) -> None:
        self.limits = limits
        self._service = service
        self._sessions: set[Session] = set()
        self._per_uid: Counter[int] = Counter()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions))

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def take_over(self, keeper: ConnectionKeeper) -> None:
        """Go on with the connections that an earlier process has left."""
        for connection, kept, record, doubt in keeper.inherited():
            if record is None or doubt:
                _end(connection, kept, doubt)
            else:
                await self._go_on(connection, kept, record)
        if self._sessions:
            log.info("%d connections go on", len(self._sessions))

    async def listen(self, listener: socket.socket) -> None:
        """Accept connections until `close_listener`."""
        loop = asyncio.get_running_loop()
        # Not create_unix_server: from Python 3.13 on that removes the socket file at the end,
        # which is SocketPath's to do, or systemd's.
        self._server = await loop.create_server(self._session, sock=listener, backlog=BACKLOG)

    def close_listener(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def drain(self, reason: str, message: str) -> None:
        """Tell everybody that no more is taken; but those who are kept, for the next process will
        take it: they only rest."""
        for session in self:
            if session.kept:
                session.rest()
            else:
                session.say_goodbye(reason, message)

    async def close(self, timeout_s: float) -> None:
        """Close every connection once its outbox has been read, or after the timeout.

        Of one that is kept only our side: its client notices nothing. Whether there will be a next
        process nobody tells us; if not, systemd closes it when the service has stopped.
        """
        staying = [session for session in self if session.kept]
        for session in self:
            if not session.kept:
                session.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for session in staying:
                    await session.rested.wait()
                    session.abort()
                await self._empty.wait()
        for session in self:
            session.abort()
        await self._empty.wait()

    async def _go_on(self, connection: socket.socket, kept: KeptConnection, record: Record) -> None:
        def session() -> Session:
            return Session(self._service, self._opened, self._closed, kept, record)

        await asyncio.get_running_loop().connect_accepted_socket(session, sock=connection)

    def _session(self) -> Session:
        return Session(self._service, on_opened=self._opened, on_closed=self._closed)

    def _opened(self, session: Session) -> None:
        self._sessions.add(session)
        self._empty.clear()
        self._per_uid[session.uid] += 1
        too_many = self._limit_reached(session.uid)
        if too_many:
            session.turn_away(Error(ErrorCode.BUSY, too_many, retry_after_s=RETRY_AFTER_S))

    def _limit_reached(self, uid: int) -> str:
        if len(self._sessions) > self.limits.connections:
            return f"{self.limits.connections} connections are open (connections under [limits])"
        if self._per_uid[uid] > self.limits.connections_per_uid:
            return (
                f"uid {uid} has {self.limits.connections_per_uid} connections open "
                "(connections_per_uid under [limits]): use one for many requests"
            )
        return ""

    def _closed(self, session: Session) -> None:
        self._sessions.discard(session)
        self._per_uid[session.uid] -= 1
        if not self._per_uid[session.uid]:
            del self._per_uid[session.uid]
        if not self._sessions:
            self._empty.set()


def _end(connection: socket.socket, kept: KeptConnection, doubt: Doubt) -> None:
    """Close a connection on which nobody knows what was said last."""
    log.info("a connection ends: the daemon was restarted in the middle of a message")
    if not doubt & Doubt.WRITING:  # else it would be taken for the rest of a message
        message = "the daemon was restarted in the middle of a message: connect again"
        with suppress(OSError):
            connection.send(encode_frame(GoAway(ErrorCode.SHUTTING_DOWN, message).to_map()))
    kept.forget()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
