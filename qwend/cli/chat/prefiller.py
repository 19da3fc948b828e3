"""Prefills beside a chat: a connection and a thread of their own, which nobody waits for.

Rule 1: nothing here can hold up, disturb or end the chat: whatever fails is only logged.
Rule 2: this file does not know what is worth a prefill.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final

from qwend.cli.chat.turn import is_loss
from qwend.client import Client, ClientError, DaemonUnreachable, RequestFailed, TokenStream
from qwend.errors import QwendError
from qwend.wire import ChatMessage

log = logging.getLogger(__name__)

# Capability of a daemon that takes `partial` (docs/protocol.md).
CAPABILITY: Final = "partial"
# The worker waits for nothing longer than a step of the engine, unless the daemon is stuck: then
# it is left behind, and ends with the process.
_LEAVE_S: Final = 0.2

Job = tuple[ChatMessage, ...] | None
"""Messages to prefill; None: stop what is being computed."""


class _End:
    """The last thing in the queue."""


class Prefiller:
    """At most one prefill at a time, always the newest. Starts nothing before the first `ask`.

    connect: opens a client for the worker alone. allowed: asked in the worker before each prefill.
    thinking: that of the chat, for it decides how an answer is opened. session: the chat's.
    An error that the daemon answers ends it for good; a lost connection is replaced.
    """

    def __init__(
        self,
        connect: Callable[[], Client],
        allowed: Callable[[], bool],
        *,
        thinking: bool | None = None,
        session: str | None = None,
    ) -> None:
        self._connect = connect
        self._allowed = allowed
        self._thinking = thinking
        self._session = session
        # The only thing that both threads touch: putting never waits.
        self._jobs: SimpleQueue[Job | _End] = SimpleQueue()
        self._worker: threading.Thread | None = None
        # The worker's own.
        self._client: Client | None = None
        self._stream: TokenStream | None = None

    def ask(self, messages: tuple[ChatMessage, ...]) -> None:
        """Compute these in place of whatever was asked before. Returns at once."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="type-ahead", daemon=True)
            self._worker.start()
        if self._worker.is_alive():
            self._jobs.put(messages)

    def give_up(self) -> None:
        """Stop what was asked before. Returns at once."""
        if self._worker is not None and self._worker.is_alive():
            self._jobs.put(None)

    def close(self) -> None:
        """May be called again."""
        if self._worker is not None:
            self._jobs.put(_End())
            self._worker.join(_LEAVE_S)

    def _work(self) -> None:
        try:
            while not isinstance(job := self._next(), _End):
                self._begin(job)
        except QwendError as error:
            log.debug("type-ahead is off: %s", error)
        except Exception:
            # A traceback of this thread would be printed into the chat.
            log.debug("type-ahead is off", exc_info=True)
        finally:
            self._drop()

    def _next(self) -> Job | _End:
        """Wait for a job, end the one before; of those that came meanwhile the last one counts."""
        job = self._jobs.get()
        if isinstance(job, _End):
            return job  # closing the connection ends the one before
        with self._losses_forgiven():
            self._end_former()
        while True:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return job

    def _begin(self, job: Job) -> None:
        if job is not None and self._allowed():
            with self._losses_forgiven():
                self._prefill(job)

    @contextmanager
    def _losses_forgiven(self) -> Iterator[None]:
        """A lost connection is dropped, for the next prefill to make a new one."""
        try:
            yield
        except ClientError as error:
            if not (is_loss(error) or isinstance(error, DaemonUnreachable)):
                raise
            log.debug("type-ahead: %s", error)
            self._drop()

    def _end_former(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()
            stream.wait()  # as it was cancelled, or is over already: it ends with the next step

    def _prefill(self, messages: tuple[ChatMessage, ...]) -> None:
        if self._client is None:
            self._client = self._connect()
        if CAPABILITY not in self._client.welcome.capabilities:
            raise RequestFailed("unsupported", f"this daemon cannot do {CAPABILITY!r}")
        self._stream = self._client.start_prefill(
            messages, partial=True, thinking=self._thinking, session=self._session
        )

    def _drop(self) -> None:
        self._stream = None
        if self._client is not None:
            self._client.close()
            self._client = None
