"""The one thread in which sessions are read and written, so that a slow disk stalls no stream.

Owns the thread, and the translation of everything that can go wrong in it to errors of a request.
Knows nothing of what is read or written. Work is done in the order in which it comes.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from qwend.daemon.conversation_file import ConversationFile, as_refusal, is_damage
from qwend.daemon.conversation_schema import Damaged
from qwend.daemon.conversation_store import ConversationStore
from qwend.errors import HostError, QwendError, RequestError
from qwend.wire.codes import ErrorCode

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class ConversationThread:
    """A Keeper (conversations.py). Made and used in the event loop; `close` is its end."""

    def __init__(self, file: ConversationFile) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sessions")

    def look(self) -> None:
        """Open what there is, so that damage is known before anybody asks."""
        if self._file.path.exists():
            self.do(lambda store: None, lambda outcome: None)

    def do(
        self,
        work: Callable[[ConversationStore], Result],
        then: Callable[[Result | QwendError], None],
    ) -> None:
        def over(done: Future[Result | QwendError]) -> None:
            self._loop.call_soon_threadsafe(then, done.result())

        self._thread.submit(self._attempt, work).add_done_callback(over)

    async def close(self) -> None:
        """Do what was asked, and close the file."""
        await asyncio.wrap_future(self._thread.submit(self._file.close))
        self._thread.shutdown()

    def _attempt(self, work: Callable[[ConversationStore], Result]) -> Result | QwendError:
        try:
            return work(self._file.store())
        except RequestError as error:
            return error
        except (sqlite3.Error, Damaged, HostError, OSError) as error:
            log.error("sessions in %s: %s", self._file.path, error)
            return self._after_damage(error) if is_damage(error) else self._refusal(error)
        except Exception:
            log.exception("sessions in %s", self._file.path)
            return RequestError("a fault of the daemon; see its log", code=ErrorCode.INTERNAL)

    def _after_damage(self, error: Exception) -> QwendError:
        try:
            self._file.damaged(error)
        except (sqlite3.Error, Damaged, HostError, OSError, RequestError) as worse:
            log.error("sessions in %s: %s", self._file.path, worse)
        return RequestError(
            f"the sessions on the disk were damaged ({error}): what could be read of them is "
            "there again; see qwenctl status, look at the session, then ask again",
            code=ErrorCode.STORAGE_ERROR,
        )

    def _refusal(self, error: Exception) -> QwendError:
        return as_refusal(error, self._file.path)
