"""The default system prompt, computed before anyone asks, and shared by everyone.

Owns one request at a time, made by the daemon itself. That it fails is no reason not to start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from qwend.daemon.broker import Broker
from qwend.engine.request import PUBLIC_UID
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.prompt import ChatMessage
from qwend.wire.replies import Done, Progress
from qwend.wire.requests import Prefill

log = logging.getLogger(__name__)


class SystemPrompt:
    """An Owner as a session is one, but nobody's: what it prefills is public."""

    uid = PUBLIC_UID
    congested = False
    page = 0

    def __init__(
        self, broker: Broker, progress: Callable[[float], None] = lambda fraction: None
    ) -> None:
        """progress: told what part of the prompt is computed, 0..1."""
        self._broker = broker
        self._progress = progress
        self._over = asyncio.Event()
        self._next_id = 0

    async def prefilled(self) -> None:
        """Prefill and wait for the end of it."""
        self.prefill()
        await self._over.wait()

    def prefill(self) -> None:
        turns = self._broker.resolver.system_turn()
        if not turns:
            self._over.set()
            return
        self._over.clear()
        self._next_id += 1
        messages = tuple(ChatMessage("system", turn.content) for turn in turns)
        # After a death of the engine it is computed beside the clients' requests, which go first.
        prefill = Prefill(self._next_id, messages=messages, priority="background")
        self._broker.submit(self, prefill)

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        if isinstance(message, Progress) and message.stage == "prefill":
            self._progress(message.done / max(message.total, 1))
        if isinstance(message, Progress) and message.stage == "recovering":
            # Whoever starts the daemon is to hear of the death; after a later one it begins anew.
            self._broker.cancel(self, message.id)
        if isinstance(message, Error):
            log.warning("the default system prompt could not be computed: %s", message.message)
        if isinstance(message, Done | Error):
            self._over.set()
