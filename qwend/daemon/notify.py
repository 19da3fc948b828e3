"""What systemd is told: readiness, status, signs of life, what to keep. Silent elsewhere.

sd_notify(3), by the sdnotify package but for the messages that carry descriptors.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping

import sdnotify

log = logging.getLogger(__name__)

# While a start goes on, each message asks for this much more time. Longer than the silence after
# which an engine that starts counts as hung (engine_pulse.py), or systemd would be the first.
EXTEND_USEC = 90_000_000
# The same stage is told again no more often than this: loading reports every tensor.
REPEAT_S = 1.0
# What a message may wait for systemd to read the ones before it; then it is lost.
SEND_TIMEOUT_S = 5


class Notifier:
    """Without NOTIFY_SOCKET every call does nothing."""

    def __init__(
        self, environ: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._notifier = _systemd(environ.get("NOTIFY_SOCKET", ""))
        self._shown = ""
        self._shown_at = 0.0

    def __bool__(self) -> bool:
        """True if there is somebody to tell."""
        return self._notifier is not None

    def ready(self, status: str) -> None:
        self._send("READY=1", self._status(status))

    def starting(self, status: str) -> None:
        """There is progress: more time, please."""
        if status != self._shown or self._clock() - self._shown_at >= REPEAT_S:
            self._send(self._status(status), f"EXTEND_TIMEOUT_USEC={EXTEND_USEC}")

    def status(self, status: str) -> None:
        """Said only if it has changed."""
        if status != self._shown:
            self._send(self._status(status))

    def reloading(self, status: str) -> None:
        """Must be followed by `ready`, whatever became of it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self.status(status)

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", self._status(status))

    def failed(self, status: str, errno: int) -> None:
        """The process is about to end. errno: what `systemctl status` shows as its error."""
        self._send(self._status(status), f"ERRNO={errno}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def keep(self, name: str, fd: int) -> None:
        """Have systemd keep a copy of the descriptor, for the next process of this service."""
        self._send("FDSTORE=1", f"FDNAME={name}", fds=(fd,))

    def drop(self, name: str) -> None:
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def close(self) -> None:
        if self._notifier is not None:
            self._notifier.socket.close()

    def _status(self, status: str) -> str:
        self._shown, self._shown_at = status, self._clock()
        return f"STATUS={status}"

    def _send(self, *lines: str, fds: tuple[int, ...] = ()) -> None:
        if self._notifier is None:
            return
        # A reason may be a foreign text: its line breaks must not make messages of their own.
        text = "\n".join(line.replace("\n", " ") for line in lines)
        try:
            if fds:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
                self._notifier.socket.sendmsg([os.fsencode(text)], [rights])
            else:
                # sdnotify writes Latin-1; so each byte of the UTF-8 goes in as a character.
                self._notifier.notify(os.fsencode(text).decode("latin-1"))
        except OSError as error:
            log.debug("systemd could not be told %r: %s", lines[0], error)


class _Systemd(sdnotify.SystemdNotifier):  # type: ignore[misc]
    """Connected to the address it is given, "@" standing for an abstract one (unix(7)).

    sdnotify's own __init__ takes the address from os.environ, and waits for ever where nobody
    reads. Raises: OSError where nobody listens.
    """

    def __init__(self, address: str) -> None:
        self.debug = True  # tell what went wrong instead of hiding it
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        timeout = struct.pack("@ll", SEND_TIMEOUT_S, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
        try:
            self.socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            self.socket.close()
            raise


def _systemd(address: str) -> _Systemd | None:
    if not address:
        return None
    try:
        return _Systemd(address)
    except OSError as error:
        log.warning("nobody listens on NOTIFY_SOCKET %s: %s", address, error)
        return None
