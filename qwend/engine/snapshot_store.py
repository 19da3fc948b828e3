"""Snapshot store: what is on disk, how much of it, and in which order it was used.

Owns the index and its limit in bytes; the files are `snapshot_files.py`'s. The index belongs to
the engine's thread. Only `files` may also be used from the writer's thread, so there is no lock.
Order of use over restarts, and among models, is the files' mtime.

The limit is of all models' files together, and whatever was used last stays, whosesoever it is.
Engines of two models at once know of each other what the directory said at their last write: a
write looks again, and is dropped where too much was used later than it. So each of them is over
the limit by one file at most, the one that it is writing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qwend.engine.snapshot_files import FILES_LIMIT as FILES_LIMIT
from qwend.engine.snapshot_files import OtherFile, SnapshotFiles, SnapshotInfo


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one file. `evicted` are out of the index; their files are still to be unlinked."""

    info: SnapshotInfo
    evicted: tuple[SnapshotInfo, ...]


class SnapshotStore:
    """Snapshots of one fingerprint; the least recently used goes first.

    limit_bytes: of these and those of other fingerprints. used_bytes: of these alone.
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
            self._files = SnapshotFiles(directory, fingerprint, limit_bytes)
            for info, used_ns in self._files.scan():
                self._enter(info, used_ns)
            self._evict_surplus()
        except (OSError, ValueError) as error:
            self.close()
            self.reason = f"{directory}: {error}"

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

    def latest_ns(self) -> int:
        """When the last used file was, of any model: Unix time in ns, 0 if there is none."""
        return max((used_ns for _, used_ns in self._by_last_use()), default=0)

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
        room, files = self._room()
        evicted: list[SnapshotInfo] = []
        for one, last_ns in self._by_last_use():
            if (info.file_bytes <= room and files > 0) or last_ns >= used_ns:
                break
            if isinstance(one, SnapshotInfo):  # another model's are removed by the write itself
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
        used_ns = max(self._clock(), self.latest_ns() + 1)
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

    def _by_last_use(self) -> list[tuple[SnapshotInfo | OtherFile, int]]:
        """Every model's files and when they were used, the least recently used first."""
        ours = [(info, used_ns) for info, used_ns in self._used_ns.items()]
        others = self._files.others if self._files is not None else ()
        theirs = [(one, one.used_ns) for one in others]
        return sorted([*ours, *theirs], key=lambda file: file[1])

    def _room(self) -> tuple[int, int]:
        """Bytes and files that there may still be; negative if there are too many."""
        others = self.files.others
        used_bytes = self.used_bytes + sum(one.file_bytes for one in others)
        return self.limit_bytes - used_bytes, FILES_LIMIT - len(self._used_ns) - len(others)

    def _evict_surplus(self) -> None:
        """An earlier start may have had a higher limit. Raises: OSError."""
        room, files = self._room()
        # What is over the limit alone goes first, and takes no others along.
        by_use = [one for one, _ in self._by_last_use()]
        for one in sorted(by_use, key=lambda file: file.file_bytes <= self.limit_bytes):
            if room >= 0 and files >= 0:
                break
            if isinstance(one, SnapshotInfo):
                self.remove(one)
            else:
                self.files.unlink(one)
            room += one.file_bytes
            files += 1
        self.files.look_at_others()

    def check_integrity(self) -> None:
        """Assert that the accounting is right; for tests."""
        assert self.used_bytes == sum(info.file_bytes for info in self._used_ns)
        assert self.used_bytes <= max(0, self.limit_bytes)
        assert len({info.name for info in self._used_ns}) == len(self._used_ns) <= FILES_LIMIT
        ours = {info.name for info in self._used_ns}
        others = () if self._files is None else self._files.others
        assert ours.isdisjoint(one.name for one in others)
