"""A client that knows frames and nothing else: no library, no resuming, no patience.

Owns one socket. A message is read only when somebody asks for one, so that a client can be slow.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgpack

READ_BYTES = 65536
# A full backlog makes connect fail at once (EAGAIN, unix(7)).
CONNECT_AGAIN_S = 0.02


class NotGreeted(Exception):
    """The connection ended, or said something else, before `welcome`."""


class RawConnection:
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._read = bytearray()
        self.capabilities: tuple[str, ...] = ()

    @classmethod
    async def open(cls, path: Path, can: Sequence[str] = ()) -> Self:
        """can: capabilities of this client. Raises: NotGreeted, OSError."""
        connected = socket.socket(socket.AF_UNIX)
        connected.setblocking(False)
        try:
            await _connect(connected, path)
            self = cls(connected)
            await self._greet(can)
        except BaseException:
            connected.close()
            raise
        return self

    async def send(self, fields: Mapping[str, Any]) -> None:
        """To a daemon that is gone: nothing. What it said before can still be read."""
        payload: bytes = msgpack.packb(fields)
        await self.send_bytes(len(payload).to_bytes(4, "big") + payload)

    async def send_bytes(self, data: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._loop.sock_sendall(self._socket, data)

    async def read(self) -> dict[str, Any] | None:
        """The next message; None at the end of the connection. May be cancelled."""
        while (message := self._take()) is None:
            try:
                data = await self._loop.sock_recv(self._socket, READ_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self._read += data
        return message

    async def status(self) -> dict[str, Any]:
        """On a connection without open requests. Raises: NotGreeted at the end of it."""
        await self.send({"op": "status"})
        while message := await self.read():
            if message["op"] == "status":
                return dict(message["status"])
        raise NotGreeted("the connection ended before the status came")

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exit: object) -> None:
        self.close()

    async def _greet(self, can: Sequence[str]) -> None:
        hello = {"op": "hello", "protocol": "qwend/1", "client": "soak"}
        await self.send({**hello, "capabilities": list(can)})
        first = await self.read()
        if first is None or first["op"] != "welcome":
            raise NotGreeted(f"{first} instead of welcome")
        self.capabilities = tuple(first["capabilities"])

    def _take(self) -> dict[str, Any] | None:
        if len(self._read) < 4:
            return None
        end = 4 + int.from_bytes(self._read[:4], "big")
        if len(self._read) < end:
            return None
        message: dict[str, Any] = msgpack.unpackb(self._read[4:end], strict_map_key=False)
        del self._read[:end]
        return message


async def _connect(connecting: socket.socket, path: Path) -> None:
    while True:
        try:
            connecting.connect(os.fspath(path))
            return
        except BlockingIOError:
            await asyncio.sleep(CONNECT_AGAIN_S)
