"""Snapshot store: what is on disk, how much of it, and in which order it was used.

Owns the index and its limit in bytes; the files are `snapshot_files.py`'s. The index belongs to
the engine's thread. Only `files` may also be used from the writer's thread, so there is no lock.
Order of use over restarts is the files' mtime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo

# A start reads each file's header and tokens: 0.1 ms on an SSD, some ms on a cold SD card.
FILES_LIMIT = 512


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one file. `evicted` are out of the index; their files are still to be unlinked."""

    info: SnapshotInfo
    evicted: tuple[SnapshotInfo, ...]


class SnapshotStore:
    """Snapshots of one fingerprint; the least recently used goes first.

    reason: why nothing can be kept, None if it can. An unusable directory is never an error.
    clock: Unix time in ns, for what a file says of its age.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        fingerprint: bytes,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.reason: str | None = None
        self._clock = clock
        self._files: SnapshotFiles | None = None
        # Time of last use in ns. At most FILES_LIMIT, so the least is found by looking at all.
        self._used_ns: dict[SnapshotInfo, int] = {}
        try:
            self._files = SnapshotFiles(directory, fingerprint)
            for info, used_ns in self._files.scan():
                self._enter(info, used_ns)
        except (OSError, ValueError) as error:
            self.close()
            self.reason = f"{directory}: {error}"
        self._evict_surplus()

    @property
    def files(self) -> SnapshotFiles:
        """The files; only while `reason` is None."""
        assert self._files is not None
        return self._files

    @property
    def failure(self) -> str | None:
        """Why the last write came to nothing (a full or a broken disk), None if none did."""
        return None if self._files is None else self._files.failure

    def close(self) -> None:
        """Forget the index and let go of the directory; the files stay."""
        self._used_ns.clear()
        self.used_bytes = 0
        if self._files is not None:
            self._files.close()
            self._files = None
        self.reason = "closed"

    def entries(self) -> list[SnapshotInfo]:
        """What there is, the least recently used first."""
        return sorted(self._used_ns, key=lambda info: self._used_ns[info])

    def used_ns(self, info: SnapshotInfo) -> int:
        """When it was last used: Unix time in ns."""
        return self._used_ns[info]

    def reserve(
        self, uid: int, tokens: Sequence[int], blob_bytes: int, used_ns: int
    ) -> Reservation | None:
        """Enter a snapshot whose file comes next, and make room for it; None if there is none.

        Only what was used before `used_ns` makes room: a snapshot must not push out what is
        worth more than itself. Reserve the same uid and tokens again only after `release`.
        """
        if self._files is None:
            return None
        created_s = self._clock() // 1_000_000_000
        info = self._files.info(uid, tuple(tokens), blob_bytes, created_s)
        room = self.limit_bytes - self.used_bytes
        files = FILES_LIMIT - len(self._used_ns)
        evicted: list[SnapshotInfo] = []
        for one in self.entries():
            if (info.file_bytes <= room and files > 0) or self._used_ns[one] >= used_ns:
                break
            evicted.append(one)
            room += one.file_bytes
            files += 1
        if info.file_bytes > room or files <= 0:
            return None
        for one in evicted:
            self.release(one)
        self._enter(info, used_ns)
        return Reservation(info, tuple(evicted))

    def touch(self, info: SnapshotInfo, used_ns: int) -> None:
        """Note a use here; `files.set_time` tells the next start."""
        self._used_ns[info] = used_ns

    def release(self, info: SnapshotInfo) -> None:
        """Take it out of the index; `files.unlink` does the rest. Twice is harmless."""
        if self._used_ns.pop(info, None) is not None:
            self.used_bytes -= info.file_bytes

    def write(self, uid: int, tokens: Sequence[int], blob: bytes) -> SnapshotInfo | None:
        """Reserve and write at once, as the last used; None if there is no room, or `failure`."""
        used_ns = max((self._clock(), *(used + 1 for used in self._used_ns.values())))
        reservation = self.reserve(uid, tokens, len(blob), used_ns)
        if reservation is None:
            return None
        for one in reservation.evicted:
            self.files.unlink(one)
        if not self.files.put(reservation.info, blob, used_ns):
            self.release(reservation.info)
            return None
        return reservation.info

    def read(self, info: SnapshotInfo) -> bytes | None:
        """The blob, checked; None if the file is gone or not as it was written."""
        return None if self._files is None else self._files.read(info)

    def remove(self, info: SnapshotInfo) -> None:
        """Release and unlink at once."""
        self.release(info)
        self.files.unlink(info)

    def _enter(self, info: SnapshotInfo, used_ns: int) -> None:
        self._used_ns[info] = used_ns
        self.used_bytes += info.file_bytes

    def _evict_surplus(self) -> None:
        """An earlier start may have had a higher limit."""
        # What is over the limit alone goes first, and takes no others along.
        entries = sorted(self.entries(), key=lambda info: info.file_bytes <= self.limit_bytes)
        for info in entries:
            if self.used_bytes <= self.limit_bytes and len(self._used_ns) <= FILES_LIMIT:
                break
            self.remove(info)

    def check_integrity(self) -> None:
        """Assert that the accounting is right; for tests."""
        assert self.used_bytes == sum(info.file_bytes for info in self._used_ns)
        assert self.used_bytes <= max(0, self.limit_bytes)
        assert len({info.name for info in self._used_ns}) == len(self._used_ns) <= FILES_LIMIT
