"""The open connections: accepted from the listener, counted per uid, told when it is over.

Owns the sessions. A connection beyond a limit is answered `busy` and closed.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator

from qwend.config import LimitsConfig
from qwend.daemon.listener import BACKLOG
from qwend.daemon.session import Service, Session
from qwend.wire.codes import ErrorCode
from qwend.wire.notices import Error

RETRY_AFTER_S = 1.0


class Clients:
    def __init__(self, service: Service, limits: LimitsConfig) -> None:
        self._service = service
        self._limits = limits
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

    async def close(self, timeout_s: float) -> None:
        """Close every connection once its outbox has been read, or after the timeout."""
        for session in self:
            session.close()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            for session in self:
                session.abort()
            await self._empty.wait()

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
        if len(self._sessions) > self._limits.connections:
            return f"{self._limits.connections} connections are open (connections under [limits])"
        if self._per_uid[uid] > self._limits.connections_per_uid:
            return (
                f"uid {uid} has {self._limits.connections_per_uid} connections open "
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
