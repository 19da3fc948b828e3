"""What systemd is told: readiness, status line, longer start-up, the end. Silent elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import sdnotify

# While a start goes on, each message asks for this much more time; loading reports at least
# every few seconds even from a slow card.
EXTEND_USEC = 60_000_000


class Notifier:
    """sd_notify(3). Without NOTIFY_SOCKET every call does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._notifier = sdnotify.SystemdNotifier() if environ.get("NOTIFY_SOCKET") else None

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def starting(self, status: str) -> None:
        self._send(f"STATUS={status}", f"EXTEND_TIMEOUT_USEC={EXTEND_USEC}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def close(self) -> None:
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()

    def _send(self, *lines: str) -> None:
        if self._notifier is not None:
            # A reason may be a foreign text: its line breaks must not make messages of their own.
            self._notifier.notify("\n".join(line.replace("\n", " ") for line in lines))
