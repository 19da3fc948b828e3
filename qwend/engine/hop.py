"""The hop between front and engine: one message per step over a SOCK_SEQPACKET pair.

Sans-IO: turns messages into packets and packets into messages; both ends do their own reading and
writing. Each packet begins with one byte: MORE, the message goes on in the next packet, or LAST.

The two ends are always of one version (the front starts the engine), so what crosses is trusted
and needs no validation, unlike what crosses the client's socket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgpack

from qwend.engine.events import Event, event_from_map, event_to_map
from qwend.engine.request import EngineRequest
from qwend.engine.settings import EngineStart

MORE = b"\x01"
LAST = b"\x00"
# A packet must fit a socket buffer whole; Linux's default (net.core.wmem_default) is 208 KiB and
# counts its own overhead, so a 1 MiB prompt has to go in parts.
PACKET_BYTES = 32 * 1024


def start(settings: EngineStart) -> dict[str, Any]:
    return {"do": "start", "settings": settings.to_map()}


def submit(request: EngineRequest) -> dict[str, Any]:
    return {"do": "submit", "request": request.to_map()}


def cancel(request_id: int) -> dict[str, Any]:
    return {"do": "cancel", "id": request_id}


def grant(request_id: int, tokens: int) -> dict[str, Any]:
    return {"do": "grant", "id": request_id, "tokens": tokens}


def limit(threads: int) -> dict[str, Any]:
    """At most so many threads compute from now on; 0: as many as were planned."""
    return {"do": "limit", "threads": threads}


def ping() -> dict[str, Any]:
    """Answered with `Alive`."""
    return {"do": "ping"}


def shrink(limit_bytes: int) -> dict[str, Any]:
    """Idle prefixes take at most so many bytes of memory from now on."""
    return {"do": "shrink", "bytes": limit_bytes}


def stop() -> dict[str, Any]:
    return {"do": "stop"}


def events(happened: Sequence[Event]) -> dict[str, Any]:
    return {"events": [event_to_map(event) for event in happened]}


def read_events(message: dict[str, Any]) -> list[Event]:
    return [event_from_map(fields) for fields in message["events"]]


def packets(message: dict[str, Any]) -> Iterator[bytes]:
    """The message as packets, to be sent in order and without another message in between."""
    payload = memoryview(msgpack.packb(message))
    for at in range(0, len(payload), PACKET_BYTES):
        end = at + PACKET_BYTES
        yield (MORE if end < len(payload) else LAST) + bytes(payload[at:end])


class Assembler:
    """Packets to messages. One per direction; packets must come in order."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, packet: bytes) -> dict[str, Any] | None:
        """Return the message that this packet completes, if it does."""
        self._parts.append(packet[1:])
        if packet[:1] == MORE:
            return None
        payload = b"".join(self._parts)
        self._parts.clear()
        message: dict[str, Any] = msgpack.unpackb(payload, strict_map_key=False)
        return message
