"""How many threads the engine may use at most, for all the reasons there are at once.

Owns the limit and tells it to the engine. Each cause (heat, a battery, CPUs that went offline)
sets its own without knowing of the others; the lowest holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qwend.engine import hop


class ThreadLimit:
    """Written by the front's event loop alone."""

    def __init__(self) -> None:
        self._by_cause: dict[str, int] = {}
        self._send: Callable[[dict[str, Any]], None] | None = None

    @property
    def threads(self) -> int:
        """The lowest of all limits; 0: there is none."""
        return min((each for each in self._by_cause.values() if each), default=0)

    def set(self, cause: str, threads: int) -> None:
        """From now on the cause allows so many; 0: as many as there are."""
        before = self.threads
        self._by_cause[cause] = threads
        if self.threads != before:
            self._tell()

    def attach(self, send: Callable[[dict[str, Any]], None]) -> None:
        """An engine is ready: it starts without a limit."""
        self._send = send
        if self.threads:
            self._tell()

    def _tell(self) -> None:
        if self._send is not None:
            self._send(hop.limit(self.threads))
