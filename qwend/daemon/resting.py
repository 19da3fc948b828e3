"""What a session notes for the process after this one, and when it may be left to it.

Owns the record of one connection that systemd keeps, and the moment in which nothing is under way
on it. Without one that is kept every call does nothing. Knows nothing of messages or the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qwend.daemon.kept_connection import KeptConnection
from qwend.daemon.kept_page import PAGE_BYTES, Doubt, Record
from qwend.wire.connection import Connection

# How soon it is looked again whether the kernel has taken what a slow client left in the outbox:
# asyncio tells only when the outbox had been over its limit.
LOOK_AGAIN_S = 0.1


class Resting:
    """Call `reading` before a read, `writing` when there is something to write, `settle` after.

    open_ids: the client's ids of its requests that have not ended, asked after `changed`.
    again: called for a `settle` when there may be something new to note.
    may_rest: the requests that are open may be left to the next process; at_rest: they are.
    """

    def __init__(
        self,
        kept: KeptConnection | None,
        connection: Connection,
        open_ids: Callable[[], tuple[int, ...]],
        again: Callable[[], None],
        *,
        may_rest: Callable[[], bool],
        at_rest: Callable[[], None],
    ) -> None:
        self.kept = kept
        self.rested = asyncio.Event()
        """Nothing is read any more: the rest is for the next process. Or the connection is gone."""
        self._connection = connection
        self._open_ids = open_ids
        self._again = again
        self._may_rest = may_rest
        self._at_rest = at_rest
        self._open: tuple[int, ...] = ()
        self._changed = False
        self._wanted = False
        self._timer: asyncio.TimerHandle | None = None

    def reading(self) -> None:
        if self.kept is not None:
            self.kept.begin(Doubt.READING)

    def writing(self) -> None:
        if self.kept is not None:
            self.kept.begin(Doubt.WRITING)

    def changed(self) -> None:
        """A request has come, or ended."""
        self._changed = True

    def want(self) -> None:
        """Rest as soon as nothing is under way."""
        self._wanted = True

    def settle(
        self,
        transport: asyncio.Transport,
        capabilities: tuple[str, ...],
        *,
        outgoing: bool,
        in_doubt: bool,
    ) -> None:
        """Note what another process would have to know now.

        outgoing: more will be written; in_doubt: of some of it the next process knows nothing.
        """
        kept = self.kept
        if kept is None or self.rested.is_set():
            return
        if self._changed:
            self._open, self._changed = self._open_ids(), False
        unwritten = bool(transport.get_write_buffer_size())
        record = None
        if self._connection.buffered_bytes < PAGE_BYTES:  # else it is not even worth a try
            record = Record(capabilities, self._open, self._connection.held)
        kept.settle(record, written=not (in_doubt or unwritten))
        if unwritten and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look_again)
        if self._wanted and not outgoing and kept.at_rest and self._may_rest():
            transport.pause_reading()
            self.rested.set()
            self._at_rest()

    def end(self) -> bool:
        """The connection is gone; True if it was not left to the next process."""
        if self._timer is not None:
            self._timer.cancel()
        over = not self.rested.is_set()
        if over and self.kept is not None:
            self.kept.forget()
        self.rested.set()
        return over

    def _look_again(self) -> None:
        self._timer = None
        self._again()
