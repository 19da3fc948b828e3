"""HTTP to a Unix socket, as far as it is needed to hear a stream of server-sent events.

No HTTP library: the arrival of each event is what is measured, and a client that buffers or waits
would be measured with it. One connection per request, as llama-server's other clients do it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

# One event may carry a whole prompt: the last one repeats it.
LINE_BYTES = 1 << 24
PREFIX = b"data: "


class HttpFault(Exception):
    """The server's answer is not the stream that was asked for; the text is what it said."""


def event_in(line: bytes) -> dict[str, Any] | None:
    """The event in one line of a stream; None for what is none, such as the size of a chunk.

    Raises: HttpFault if it claims to be one and cannot be read, or is an error of the server.
    """
    if line.startswith(b"error: "):
        raise HttpFault(f"the server says {_shown(line)}")
    if not line.startswith(PREFIX):
        return None
    text = line[len(PREFIX) :].strip()
    if text == b"[DONE]":
        return None
    try:
        event = json.loads(text)
    except ValueError:
        raise HttpFault(f"an event that is no JSON: {_shown(text)}") from None
    if not isinstance(event, dict) or "error" in event:
        raise HttpFault(f"the server says {_shown(text)}")
    return event


def status_in(line: bytes) -> int:
    """200 of `HTTP/1.1 200 OK`; 0 for a line that is no status line."""
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
        return 0
    return int(parts[1])


class Exchange:
    """One open connection: `send` a request, then `events`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, path: str, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self._writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Raises: HttpFault for a refusal, and for an end without a status."""
        status = status_in(await self._reader.readline())
        if status != 200:
            raise HttpFault(f"status {status}: {_shown(await self._reader.read())}")
        while line := await self._reader.readline():
            event = event_in(line)
            if event is not None:
                yield event


@asynccontextmanager
async def exchange(socket: str) -> AsyncIterator[Exchange]:
    """Raises: OSError if nobody listens."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=LINE_BYTES)
    try:
        yield Exchange(reader, writer)
    finally:
        await _closed(writer)


async def is_healthy(socket: str) -> bool:
    """Whether GET /health says that the model is loaded."""
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        try:
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return status_in(await reader.readline()) == 200
        finally:
            await _closed(writer)
    except OSError:
        return False


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):  # the other side may have been quicker
        await writer.wait_closed()


def _shown(text: bytes) -> str:
    return text[-300:].decode("utf-8", "replace").strip()
