"""The engine's end of the hop: whole messages in, events out, never blocking on the front."""

from __future__ import annotations

import select
import socket
from collections import deque
from contextlib import suppress
from typing import Any

from qwend import failpoint
from qwend.engine import hop

# With the settings comes one: the model's.
MOST_FDS = 4


class FrontGone(Exception):
    """The front has closed its end: there is nobody left to work for."""


class HopSocket:
    """Our end of the hop: reads whole messages, sends without ever blocking."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.setblocking(False)
        self._assembler = hop.Assembler()
        self._outgoing: deque[bytes] = deque()

    def receive_start(self) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
        """Wait for the first message: it, what followed at once, and the descriptors it brought.

        Raises: FrontGone.
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.poll()
        packet, fds, _, _ = socket.recv_fds(self._socket, hop.PACKET_BYTES + 1, MOST_FDS)
        if not packet:
            raise FrontGone
        first = self._assembler.feed(packet)
        messages = [] if first is None else [first]
        while not messages:
            messages = self.receive(wait=True)
        return messages, tuple(fds)

    def receive(self, *, wait: bool) -> list[dict[str, Any]]:
        """All messages that are there; wait: block until there is one, or room to send.

        Raises: FrontGone.
        """
        if wait:
            interest = select.POLLIN | (select.POLLOUT if self._outgoing else 0)
            poll = select.poll()
            poll.register(self._socket, interest)
            poll.poll()
        messages = []
        failpoint.reach("engine.receive")
        with suppress(BlockingIOError):
            while True:
                packet = self._receive_packet()
                message = self._assembler.feed(packet)
                if message is not None:
                    messages.append(message)
        self.flush()
        return messages

    def send(self, message: dict[str, Any]) -> None:
        failpoint.reach("engine.send")
        self._outgoing.extend(hop.packets(message))
        self.flush()

    def flush(self) -> None:
        """Send what the front takes now. Raises: FrontGone."""
        with suppress(BlockingIOError):
            while self._outgoing:
                try:
                    self._socket.send(self._outgoing[0])
                except (BrokenPipeError, ConnectionResetError) as error:
                    raise FrontGone from error
                self._outgoing.popleft()

    def drain(self) -> None:
        """Send everything, blocking: for the last words before the process ends."""
        self._socket.setblocking(True)
        self.flush()

    def _receive_packet(self) -> bytes:
        try:
            packet = self._socket.recv(hop.PACKET_BYTES + 1)
        except ConnectionResetError as error:
            raise FrontGone from error
        if not packet:
            raise FrontGone
        return packet
