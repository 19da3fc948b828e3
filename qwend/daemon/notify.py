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
        self._send(f"READY=1\nSTATUS={status}")

    def starting(self, status: str) -> None:
        self._send(f"STATUS={status}\nEXTEND_TIMEOUT_USEC={EXTEND_USEC}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)
