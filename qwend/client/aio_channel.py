"""A session over a Unix socket in an event loop: one task reads, the others wait for an inbox.

Rule 1: every await on the socket is here, and every OSError ends here.
Rule 2: this file does not know what is asked or answered.

Why no asyncio.StreamReader: when a write fails it drops what has been received, and with it the
daemon's reason for closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from qwend.client.channel import FIRST_PAUSE_S, LONGEST_PAUSE_S
from qwend.client.errors import ClientError, ConnectionLost, DaemonUnreachable, connect_error
from qwend.client.session import Answer, Inbox, Session
from qwend.wire import Welcome

_READ_BYTES = 64 * 1024

_CONNECT_AGAIN_S = 0.01
"""A full backlog makes a non-blocking connect fail at once (EAGAIN, unix(7)), with nothing to wait
for; a daemon that is not stuck empties it in less."""


class AsyncInbox(Inbox):
    """An inbox that one task can wait for."""

    __slots__ = ("_changed",)

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        super().__init__(self._changed.set)

    async def changed(self) -> None:
        """Return once `wake` was called since the last return."""
        await self._changed.wait()
        self._changed.clear()


class AsyncChannel:
    """Open between `open` and `close`. All calls belong to one event loop."""

    def __init__(self, path: Path, timeout_s: float, name: str, reconnect_s: float = 0.0) -> None:
        self.path = path
        self.session = Session(path)
        self.number = 1
        """Of the connection: counts up when one takes the place of another."""
        self._reconnect_s = reconnect_s
        self._renewing = asyncio.Lock()
        self._closed = False
        self._timeout_s = timeout_s
        self._name = name
        self._welcomed = AsyncInbox()
        self._socket: socket.socket | None = None
        self._reading: asyncio.Task[None] | None = None
        # Frames must not mix when the socket takes only a part of one.
        self._sending = asyncio.Lock()
        self._senders: set[asyncio.Task[None]] = set()

    @property
    def welcome(self) -> Welcome:
        assert self.session.welcome is not None, "use the client inside 'async with'"
        return self.session.welcome

    async def open(self) -> None:
        """Connect and greet.

        Raises: DaemonUnreachable, PermissionDenied, or RequestFailed if the daemon is too busy.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                self._socket = await self._connect()
                self._reading = asyncio.create_task(
                    self._read(self._socket), name="qwend-client-reader"
                )
                await self.send(self.session.hello(self._name))
                while self.session.welcome is None:
                    if self.session.lost:
                        raise self.session.lost
                    await self._welcomed.changed()
        except TimeoutError as error:
            await self._end()
            hint = f"no answer within {self._timeout_s:g} s; it may be stuck"
            raise DaemonUnreachable(self.path, hint) from error
        except BaseException:
            await self._end()
            raise

    async def renew(self, number: int, lost: ClientError) -> None:
        """Connect again, unless somebody has since connection `number`.

        Raises: `lost` if there is no daemon for `reconnect_s`, or this client has been closed.
        """
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + self._reconnect_s, FIRST_PAUSE_S
        async with self._renewing:
            while self.number == number:
                left_s = deadline - loop.time()
                if self._closed or left_s <= 0:
                    raise lost
                await self._end()
                self.session = Session(self.path)
                try:
                    await self.open()
                    self.number += 1
                except ClientError as error:
                    self.session.end(error)
                    await asyncio.sleep(min(pause_s, left_s))
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def ensure(self) -> None:
        """Connect again if the connection is lost. Raises: as `renew`."""
        if self.session.lost is not None:
            await self.renew(self.number, self.session.lost)

    async def send(self, data: bytes) -> None:
        """Returns once the kernel has it. A cancelled caller leaves the frame whole all the same.

        Why sending fails is for the reader to tell: the daemon's reason may still be on its way.
        """
        if self._socket is None:
            raise self.session.lost or ConnectionLost("use the client inside 'async with'")
        task = asyncio.create_task(self._send_all(self._socket, data))
        self._senders.add(task)
        task.add_done_callback(self._senders.discard)
        await asyncio.shield(task)

    async def receive(
        self, inbox: AsyncInbox, *, at_once: bool, session: Session | None = None
    ) -> Answer:
        """Wait until something came for `inbox`; an answer due `at_once` has `timeout_s`.

        session: over which it was asked, if that may be another one by now.
        """
        session = session or self.session
        try:
            async with asyncio.timeout(self._timeout_s if at_once else None):
                while (answer := session.take(inbox)) is None:
                    await inbox.changed()
                return answer
        except TimeoutError as error:
            lost = ConnectionLost(
                f"the daemon gave no answer within {self._timeout_s:g} s; it may be stuck"
            )
            session.end(lost)
            raise lost from error

    async def close(self) -> None:
        """May be called again. Requests that are open end: the daemon must not keep them for
        whoever comes back."""
        if not self._closed and self._socket is not None and self.session.lost is None:
            with contextlib.suppress(ClientError):
                await self.send(self.session.abandon_lasting())
        self._closed = True
        await self._end()

    async def _end(self) -> None:
        self.session.end(ConnectionLost("this client has been closed"))
        for task in (*self._senders, *([self._reading] if self._reading else [])):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._reading = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _connect(self) -> socket.socket:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            while True:
                with contextlib.suppress(BlockingIOError):
                    connecting.connect(os.fspath(self.path))
                    return connecting
                await asyncio.sleep(_CONNECT_AGAIN_S)
        except OSError as error:
            connecting.close()
            raise connect_error(self.path, error) from error
        except BaseException:
            connecting.close()
            raise

    async def _send_all(self, connected: socket.socket, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        async with self._sending:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await loop.sock_sendall(connected, data)
            except TimeoutError:
                # A part may be sent: no other message can follow it.
                self.session.end(ConnectionLost("the daemon does not read; it may be stuck"))
            except OSError:
                pass  # the reader hears of it too, after whatever the daemon said last

    async def _read(self, connected: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while self.session.lost is None:
            try:
                data = await loop.sock_recv(connected, _READ_BYTES)
            except ConnectionResetError:
                data = b""
            except OSError as error:
                self.session.end(ConnectionLost(f"reading from {self.path}: {error}"))
                break
            self.session.receive(data)
            self._welcomed.wake()
        self._welcomed.wake()
