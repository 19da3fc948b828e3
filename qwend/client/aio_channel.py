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

from qwend.client.errors import ConnectionLost, DaemonUnreachable, connect_error
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

    def __init__(self, path: Path, timeout_s: float, name: str) -> None:
        self.path = path
        self.session = Session(path)
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
            await self.close()
            hint = f"no answer within {self._timeout_s:g} s; it may be stuck"
            raise DaemonUnreachable(self.path, hint) from error
        except BaseException:
            await self.close()
            raise

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

    async def receive(self, inbox: AsyncInbox, *, at_once: bool) -> Answer:
        """Wait until something came for `inbox`; an answer due `at_once` has `timeout_s`."""
        try:
            async with asyncio.timeout(self._timeout_s if at_once else None):
                while (answer := self.session.take(inbox)) is None:
                    await inbox.changed()
                return answer
        except TimeoutError as error:
            lost = ConnectionLost(
                f"the daemon gave no answer within {self._timeout_s:g} s; it may be stuck"
            )
            self.session.end(lost)
            raise lost from error

    async def close(self) -> None:
        """May be called again."""
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
