"""The open connections: admitted from the listener, counted per uid, told when it is over.

Owns the sessions. A connection beyond a limit is answered `busy` and closed, one of a user who may
not connect `forbidden`; nothing of either is read. What a user's connections hold in our memory is
counted too, and where it is too much the one that holds most is cut off. A connection that systemd
keeps is taken over from the process before us, and left to the next.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress

from qwend.config import LimitsConfig
from qwend.daemon.descriptors import room_for
from qwend.daemon.doorkeeper import Doorkeeper
from qwend.daemon.identity import Identity
from qwend.daemon.kept_connection import ConnectionKeeper, KeptConnection
from qwend.daemon.kept_page import Doubt, Record
from qwend.daemon.session import Service, Session
from qwend.wire.codes import ErrorCode
from qwend.wire.frame import encode_frame
from qwend.wire.notices import Error, GoAway

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
# The last places, one in 64, are for users who have no connection yet: eight users with all that
# they may have (128 of 1,024) must not lock out everybody else.
LAST_PLACES = 64


class Clients:
    def __init__(self, service: Service, limits: LimitsConfig) -> None:
        self._service = service
        self._sessions: set[Session] = set()
        self._of_uid: defaultdict[int, set[Session]] = defaultdict(set)
        self._per_uid: Counter[int] = Counter()  # admitted ones that have no session yet, too
        self._arriving: set[asyncio.Task[None]] = set()
        self._door: Doorkeeper | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        service.held = self._held
        self.reconfigure(limits)

    def reconfigure(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._room = room_for(limits.connections)
        if self._room < limits.connections:
            log.warning(
                "the limit of open files (LimitNOFILE=, ulimit -n) leaves room for %d connections "
                "of the %d under [limits]",
                self._room,
                limits.connections,
            )

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions))

    def of_each_uid(self) -> dict[int, int]:
        """Connections by uid."""
        return dict(self._per_uid)

    async def take_over(self, keeper: ConnectionKeeper) -> None:
        """Go on with the connections that an earlier process has left."""
        for connection, kept, record, doubt in keeper.inherited():
            identity = Identity.of(connection)
            if record is None or doubt:
                _end(connection, kept, doubt)
            elif not self._service.access.admits(identity):
                kept.forget()
                _turn_away(connection, _forbidden(identity))
            else:
                self._per_uid[identity.uid] += 1
                await self._go_on(connection, kept, record)
        if self._sessions:
            log.info("%d connections go on", len(self._sessions))

    def listen(self, listener: socket.socket) -> None:
        """Accept connections until `close_listener`."""
        self._door = Doorkeeper(listener, self._admit)

    def close_listener(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None

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
        await asyncio.gather(*self._arriving)
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

    def _admit(self, connection: socket.socket) -> None:
        identity = Identity.of(connection)
        refusal = self._refusal(identity)
        if refusal is not None:
            _turn_away(connection, refusal)
            return
        self._per_uid[identity.uid] += 1
        arriving = asyncio.ensure_future(self._connect(connection))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)

    async def _connect(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._session, sock=connection)

    async def _go_on(self, connection: socket.socket, kept: KeptConnection, record: Record) -> None:
        def session() -> Session:
            return Session(self._service, self._opened, self._closed, kept, record)

        await asyncio.get_running_loop().connect_accepted_socket(session, sock=connection)

    def _session(self) -> Session:
        return Session(self._service, on_opened=self._opened, on_closed=self._closed)

    def _opened(self, session: Session) -> None:
        self._sessions.add(session)
        self._of_uid[session.uid].add(session)
        self._empty.clear()

    def _closed(self, session: Session) -> None:
        self._sessions.discard(session)
        self._of_uid[session.uid].discard(session)
        self._per_uid[session.uid] -= 1
        if not self._per_uid[session.uid]:
            del self._per_uid[session.uid], self._of_uid[session.uid]
        if not self._sessions:
            self._empty.set()

    def _refusal(self, identity: Identity) -> Error | None:
        """Why the connection is not wanted; None: it is welcome."""
        if not self._service.access.admits(identity):
            return _forbidden(identity)
        full = self._limit_reached(identity.uid)
        return Error(ErrorCode.BUSY, full, retry_after_s=RETRY_AFTER_S) if full else None

    def _limit_reached(self, uid: int) -> str:
        limits, open_now, own = self._limits, self._per_uid.total(), self._per_uid[uid]
        if own >= limits.connections_per_uid:
            return (
                f"uid {uid} has {limits.connections_per_uid} connections open "
                "(connections_per_uid under [limits]): use one for many requests"
            )
        if open_now >= self._room:
            cause = (
                "connections under [limits]"
                if self._room == limits.connections
                else "the limit of open files, LimitNOFILE="
            )
            return f"{open_now} connections are open ({cause})"
        if own and open_now >= self._room - self._room // LAST_PLACES:
            return (
                f"{open_now} connections are open, and the last places are for users who have "
                "none (connections under [limits])"
            )
        return ""

    def _held(self, session: Session) -> None:
        """The session holds this many bytes of ours: cut one off where a user's hold too much."""
        limit = self._limits.held_bytes_per_uid
        # Where the sum is over the limit, somebody is over an equal share.
        if session.held_bytes <= limit // max(1, self._per_uid[session.uid]):
            return
        of_uid = self._of_uid[session.uid]
        if sum(one.held_bytes for one in of_uid) > limit:
            max(of_uid, key=lambda one: one.held_bytes).cut_off(
                f"connections of uid {session.uid} held more than {limit} bytes unread or half "
                "sent (held_bytes_per_uid under [limits])"
            )


def _forbidden(identity: Identity) -> Error:
    return Error(
        ErrorCode.FORBIDDEN,
        f"uid {identity.uid} may not use this daemon: ask its operator (allow_users and "
        "allow_groups under [socket])",
    )


def _turn_away(connection: socket.socket, error: Error) -> None:
    """Say why not, and close; nothing is read. The kernel's buffer is empty: it takes the frame."""
    with connection, suppress(OSError):
        connection.send(encode_frame(error.to_map()))
        connection.shutdown(socket.SHUT_RDWR)  # whatever copies of it there are


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
