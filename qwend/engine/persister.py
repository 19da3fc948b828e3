"""Persister: who does the slow half of keeping snapshots, the file system's.

The cache decides and keeps the books, a persister touches the disk. `snapshot_writer.py` has one
with a thread; `InlinePersister` needs none. All calls come from one thread, the cache's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a write ended. Of a write whose snapshot was removed meanwhile there may be none."""

    info: SnapshotInfo
    written: bool


class Persister(Protocol):
    """What is asked first is done first."""

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        """True if `write` of so many bytes may be called now; waits for that, 0: not at all."""

    def write(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> None:
        """Write a file. The blob is held until it is done."""

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        """Tell a file when it was last used."""

    def remove(self, info: SnapshotInfo) -> None:
        """Remove a file, or do not write it if that has not begun."""

    def outcomes(self) -> list[Outcome]:
        """The writes that ended since the last call, in order."""

    def drain(self, timeout_s: float) -> bool:
        """Wait until all that was asked is done; False if the time was not enough."""


class InlinePersister:
    """Does everything at once, on the thread that asks."""

    def __init__(self, files: SnapshotFiles) -> None:
        self._files = files
        self._outcomes: list[Outcome] = []

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        return True

    def write(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> None:
        self._outcomes.append(Outcome(info, self._files.put(info, blob, used_ns)))

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        self._files.set_time(info, used_ns)

    def remove(self, info: SnapshotInfo) -> None:
        self._files.unlink(info)

    def outcomes(self) -> list[Outcome]:
        ended, self._outcomes = self._outcomes, []
        return ended

    def drain(self, timeout_s: float) -> bool:
        return True
