"""At most how many threads compute, when there are several reasons for fewer: heat, lost CPUs.

Owns who asks for what; the engine is told the least of it, each new engine again. One writer: the
front's event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qwend.engine import hop


class ThreadLimit:
    def __init__(self) -> None:
        self._asked: dict[str, int] = {}
        self._send: Callable[[dict[str, Any]], None] | None = None
        self._told = 0

    @property
    def threads(self) -> int:
        """The limit now; 0: none."""
        return min((asked for asked in self._asked.values() if asked), default=0)

    def ask(self, who: str, threads: int) -> None:
        """From now on at most so many, as far as `who` is concerned; 0: it no longer minds."""
        self._asked[who] = threads
        self._tell()

    def attach(self, send: Callable[[dict[str, Any]], None]) -> None:
        """An engine has started; it has no limit yet."""
        self._send = send
        self._told = 0
        self._tell()

    def _tell(self) -> None:
        if self._send is not None and self.threads != self._told:
            self._told = self.threads
            self._send(hop.limit(self._told))
