"""The connection of a chat, which outlives the daemon's restarts.

Rule 1: there is at most one connection; a lost one is replaced before the next request.
Rule 2: this file does not know what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from qwend.client import Client, DaemonUnreachable

# A restart takes a second with a warm model, ten with one that is read from a memory card.
PATIENCE_S = 20.0
RETRY_S = 0.2


class Link:
    """connect: opens a client. notice: tells the person what they wait for."""

    def __init__(self, connect: Callable[[], Client], notice: Callable[[str], None]) -> None:
        self._connect = connect
        self._notice = notice
        self._client: Client | None = None

    def client(self) -> Client:
        """Return the connection, a new one if there is none. Raises: as `Client`."""
        if self._client is None:
            self._client = self._connect()
        return self._client

    def reconnect(self) -> None:
        """Wait for a daemon that is being restarted. Raises: DaemonUnreachable if it stays away."""
        self.drop()
        deadline = time.monotonic() + PATIENCE_S
        told = False
        while True:
            try:
                self.client()
                break
            except DaemonUnreachable:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    self._notice("The daemon is gone; waiting for it to come back.")
                    told = True
                time.sleep(RETRY_S)
        self._notice("The daemon was restarted; connected again.")

    def drop(self) -> None:
        """Close the connection; what was open on it is cancelled by the daemon."""
        if self._client is not None:
            self._client.close()
            self._client = None
