"""The doorkeeper: takes connections from the listening socket, a few at a time.

Owns the listener while it is open. asyncio's own server takes up to a backlog of connections in one
go, which holds every stream up, and writes a traceback to the log for each time it finds that no
descriptor is left.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)

# Connections taken before the streams have their turn; one costs about 0.1 ms.
ACCEPTS_A_TURN = 16
# How soon it is tried again when the system has nothing left to accept with.
ACCEPT_AGAIN_S = 0.5
# What accept(2) says of the system, or of its own limit; all else is about one connection.
NOTHING_LEFT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Doorkeeper:
    """admit: called with each connection, non-blocking, which is its own from then on."""

    def __init__(self, listener: socket.socket, admit: Callable[[socket.socket], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._admit = admit
        self._again: asyncio.TimerHandle | None = None
        self._told = False
        self._open()

    def close(self) -> None:
        """Accept no more, and close the listener."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _open(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in NOTHING_LEFT:
                    self._pause(error)
                    return
                continue  # the client has gone again: ECONNABORTED and the like, accept(2)
            self._told = False
            connection.setblocking(False)
            self._admit(connection)

    def _pause(self, error: OSError) -> None:
        """Level-triggered as it is, the listener would wake us without end."""
        if not self._told:
            log.warning("cannot accept connections for now: %s", error.strerror)
            self._told = True
        self._loop.remove_reader(self._listener)
        self._again = self._loop.call_later(ACCEPT_AGAIN_S, self._open)
