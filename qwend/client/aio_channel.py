"""A session over an asyncio Unix stream: one task reads, everybody else waits for an inbox.

Rule 1: every await on the socket is here, and every OSError ends here.
Rule 2: this file does not know what is asked or answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from qwend.client.errors import ConnectionLost, DaemonUnreachable, connect_error
from qwend.client.session import Answer, Inbox, Session
from qwend.wire import Welcome

_READ_BYTES = 64 * 1024


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
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

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
                await self._connect_and_greet()
        except TimeoutError as error:
            await self.close()
            hint = f"no answer within {self._timeout_s:g} s; it may be stuck"
            raise DaemonUnreachable(self.path, hint) from error
        except BaseException:
            await self.close()
            raise

    async def send(self, data: bytes) -> None:
        """Returns once the kernel has most of it, so that a daemon that stops reading is felt."""
        if self._writer is None:
            raise self.session.lost or ConnectionLost("use the client inside 'async with'")
        self._writer.write(data)
        # A reset shows in the reader task, with the daemon's reason if it gave one.
        with contextlib.suppress(OSError):
            await self._writer.drain()

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
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None

    async def _connect_and_greet(self) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(os.fspath(self.path))
        except OSError as error:
            raise connect_error(self.path, error) from error
        self._reading = asyncio.create_task(self._read(reader), name="qwend-client-reader")
        await self.send(self.session.hello(self._name))
        while self.session.welcome is None:
            if self.session.lost:
                raise self.session.lost
            await self._welcomed.changed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while self.session.lost is None:
            try:
                data = await reader.read(_READ_BYTES)
            except ConnectionResetError:
                data = b""
            except OSError as error:
                self.session.end(ConnectionLost(f"reading from {self.path}: {error}"))
                break
            self.session.receive(data)
            self._welcomed.wake()
        self._welcomed.wake()
