"""A session over a blocking Unix socket: sends, and reads until an inbox has something.

Rule 1: every socket call of the blocking client is here, and every OSError ends here.
Rule 2: this file does not know what is asked or answered.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path

from qwend.client.errors import ClientError, ConnectionLost, DaemonUnreachable, connect_error
from qwend.client.session import Answer, Inbox, Session
from qwend.wire import Welcome

# Between two tries to connect: a daemon is back after a second or so, or after a model was loaded.
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 0.5
_READ_BYTES = 64 * 1024
"""A Unix stream socket holds 208 KiB by default (net.core.wmem_default); one read need not."""


class Channel:
    """Open from construction to `close`.

    timeout_s: for connecting, for the welcome, for sending, and for what `receive` is told to.
    Raises: DaemonUnreachable, PermissionDenied, or RequestFailed if the daemon is too busy.
    """

    def __init__(self, path: Path, timeout_s: float, name: str, reconnect_s: float = 0.0) -> None:
        self.path = path
        self.number = 1
        """Of the connection: counts up when one takes the place of another."""
        self._timeout_s = timeout_s
        self._name = name
        self._reconnect_s = reconnect_s
        self._closed = False
        self._open()

    def renew(self, number: int, lost: ClientError) -> None:
        """Connect again, unless somebody has since connection `number`.

        Raises: `lost` if there is no daemon for `reconnect_s`, or this client has been closed.
        """
        deadline = time.monotonic() + self._reconnect_s
        pause_s = FIRST_PAUSE_S
        while self.number == number:
            left_s = deadline - time.monotonic()
            if self._closed or left_s <= 0:
                raise lost
            try:
                self._socket.close()
                self._open()
                self.number += 1
            except ClientError:
                time.sleep(min(pause_s, left_s))
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def ensure(self) -> None:
        """Connect again if the connection is lost. Raises: as `renew`."""
        if self.session.lost is not None:
            self.renew(self.number, self.session.lost)

    def _open(self) -> None:
        self.session = Session(self.path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
            self.send(self.session.hello(self._name))
            self.welcome = self._await_welcome()
        except BaseException as error:
            self._socket.close()
            if isinstance(error, ClientError):
                self.session.end(error)
            raise

    def send(self, data: bytes) -> None:
        """Raises: ConnectionLost with the daemon's reason if it gave one."""
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # The daemon has closed; why may still be there to read.
            deadline = time.monotonic() + self._timeout_s
            while self.session.lost is None:
                self._read(deadline)
            raise self.session.lost from None
        except OSError as error:
            # A part may be sent: no other message can follow it.
            lost = ConnectionLost(f"sending to {self.path}: {error}")
            self.session.end(lost)
            raise lost from error

    def receive(self, inbox: Inbox, *, at_once: bool) -> Answer:
        """Read until something came for `inbox`; an answer due `at_once` has `timeout_s`."""
        deadline = time.monotonic() + self._timeout_s if at_once else None
        while (answer := self.session.take(inbox)) is None:
            self._read(deadline)
        return answer

    def close(self) -> None:
        """Requests that are open end: the daemon must not keep them for whoever comes back."""
        with suppress(ClientError):
            if not self._closed:
                self.send(self.session.abandon_lasting())
        self._closed = True
        self.session.end(ConnectionLost("this client has been closed"))
        self._socket.close()

    def _connect(self) -> None:
        # A socket with a Python timeout is non-blocking underneath and fails at once when the
        # daemon's backlog is full; the kernel's own timeout waits for a place (socket(7)).
        seconds, microseconds = divmod(round(self._timeout_s * 1_000_000), 1_000_000)
        limit = struct.pack("@ll", seconds, microseconds)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self._socket.connect(os.fspath(self.path))
        except OSError as error:
            raise connect_error(self.path, error) from error

    def _await_welcome(self) -> Welcome:
        deadline = time.monotonic() + self._timeout_s
        while self.session.welcome is None:
            if self.session.lost:
                raise self.session.lost
            self._read(deadline)
        return self.session.welcome

    def _read(self, deadline: float | None) -> None:
        """Read once, until `deadline`; what came, or why nothing will, is then in the session."""
        left_s = None if deadline is None else max(deadline - time.monotonic(), 0.001)
        try:
            self._socket.settimeout(left_s)
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            self.session.end(self._silence())
        except ConnectionResetError:
            self.session.receive(b"")
        except OSError as error:
            self.session.end(ConnectionLost(f"reading from {self.path}: {error}"))
        else:
            self.session.receive(data)

    def _silence(self) -> ClientError:
        what = f"no answer within {self._timeout_s:g} s; it may be stuck"
        if self.session.welcome is None:
            return DaemonUnreachable(self.path, what)
        return ConnectionLost(f"the daemon gave {what}")
