"""Snapshot writer: the thread that does what the disk takes its time for.

Owns the thread and its queue. The engine's thread asks, never waits for the disk (but in
`wait_for_room` and `drain`, with a limit), and polls `outcomes`.

One lock guards the queue and the counters; it is never held during a system call.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from qwend.engine.persister import Outcome
from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo
from qwend.errors import EngineBug

# Blobs that wait are memory beyond the cache's limit: 64 MiB are 5,400 tokens of a 0.5B model.
WAITING_BYTES = 64 << 20
# Hashing takes a core for some 10 ms a snapshot: the threads that decode go first. Not lower, for
# while this thread holds the GIL the engine waits for it.
NICENESS = 10


class _Action(Enum):
    WRITE = "write"
    SET_TIME = "set_time"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class _Order:
    action: _Action
    info: SnapshotInfo
    blob: bytes = b""
    used_ns: int = 0


class SnapshotWriter:
    """A Persister with a thread. Close it, or the last snapshots may be lost.

    limit_bytes: of blobs that wait or are being written. One larger blob alone is let in when
    nothing else waits, or it could never be kept.
    """

    def __init__(self, files: SnapshotFiles, limit_bytes: int = WAITING_BYTES) -> None:
        self._files = files
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._orders: deque[_Order] = deque()
        self._outcomes: list[Outcome] = []
        self._waiting_bytes = 0
        self._busy = False
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="snapshot-writer", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of blobs that wait or are being written."""
        return self._waiting_bytes

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._fits(size_bytes), timeout_s)
            return not self._closing and self._fits(size_bytes)

    def write(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> None:
        """Raises: EngineBug if `wait_for_room` would say no."""
        with self._changed:
            if not self._fits(len(blob)):
                raise EngineBug("a snapshot was given to the writer without asking for room")
            self._waiting_bytes += len(blob)
        self._ask(_Order(_Action.WRITE, info, blob, used_ns))

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        self._ask(_Order(_Action.SET_TIME, info, used_ns=used_ns))

    def remove(self, info: SnapshotInfo) -> None:
        with self._changed:
            for order in self._orders:
                if order.info is info and order.action is _Action.WRITE:
                    self._orders.remove(order)
                    self._waiting_bytes -= len(order.blob)
                    self._changed.notify_all()
                    return
        self._ask(_Order(_Action.REMOVE, info))

    def outcomes(self) -> list[Outcome]:
        with self._changed:
            ended, self._outcomes = self._outcomes, []
        return ended

    def drain(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._orders and not self._busy, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Finish what was asked and end the thread; False if the time was not enough.

        What is not finished then is lost; a half-written file is removed at the next start.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _fits(self, size_bytes: int) -> bool:
        return not self._waiting_bytes or self._waiting_bytes + size_bytes <= self._limit_bytes

    def _ask(self, order: _Order) -> None:
        with self._changed:
            self._orders.append(order)
            self._changed.notify_all()

    def _run(self) -> None:
        with suppress(OSError):
            # Linux keeps niceness per thread: setpriority(2), "C library/kernel differences".
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while (order := self._next()) is not None:
            done = Outcome(order.info, self._carry_out(order))
            is_write, size_bytes = order.action is _Action.WRITE, len(order.blob)
            # The blob is let go before its bytes no longer count.
            del order
            with self._changed:
                if is_write:
                    self._outcomes.append(done)
                self._waiting_bytes -= size_bytes
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> _Order | None:
        with self._changed:
            self._changed.wait_for(lambda: self._orders or self._closing)
            if not self._orders:
                return None
            self._busy = True
            return self._orders.popleft()

    def _carry_out(self, order: _Order) -> bool:
        if order.action is _Action.WRITE:
            return self._files.put(order.info, order.blob, order.used_ns)
        if order.action is _Action.SET_TIME:
            self._files.set_time(order.info, order.used_ns)
        else:
            self._files.unlink(order.info)
        return True
