"""Letting go of a model that nobody has asked for long.

Owns the wait. What is asked is counted by the broker, and how a model is let go of is the
residents' to know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from qwend.daemon.broker import Broker


class IdleWatch:
    """unload: told after how many seconds; it may find that it is too late. clock: seconds."""

    def __init__(
        self, broker: Broker, clock: Callable[[], float], unload: Callable[[float], Awaitable[None]]
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._unload = unload
        self._after_s = 0.0
        self._watching: asyncio.Task[None] | None = None

    def set(self, after_s: float) -> None:
        """From now on the model goes after so many seconds without a request; 0: it stays."""
        if after_s != self._after_s:
            self.stop()
            self._after_s = after_s
            if after_s:
                self._watching = asyncio.ensure_future(self._watch(after_s))

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self, after_s: float) -> None:
        while True:
            await self._broker.emptied()
            left_s = self._broker.idle_since_s + after_s - self._clock()
            if left_s <= 0:
                await self._unload(after_s)
                left_s = after_s  # one that is woken right now has all of it again
            await asyncio.sleep(left_s)
