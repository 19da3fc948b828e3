"""Disk tier: which entries of the prefix cache have a file, or will have one soon.

Owns the way from an entry to its file and back. Knows nothing of trees, uids' rights or the memory
tier: the cache decides what an entry that lost its file is still worth.
"""

from __future__ import annotations

from qwend.engine.persister import Persister
from qwend.engine.prefix_entries import Entry
from qwend.engine.snapshot_files import SnapshotInfo
from qwend.engine.snapshot_store import SnapshotStore


class DiskTier:
    """Entries by their file. `dropped` counts those for which the writer had no room."""

    def __init__(self, store: SnapshotStore, persister: Persister) -> None:
        self._store = store
        self._persister = persister
        self._owners: dict[SnapshotInfo, Entry] = {}
        # Used since their files were last told so.
        self._untold: set[SnapshotInfo] = set()
        self.dropped = 0

    @property
    def used_bytes(self) -> int:
        return self._store.used_bytes

    def adopt(self) -> list[Entry]:
        """Entries for what the store found at its start, the least recently used first."""
        for info in self._store.entries():
            size, used_ns = info.header.blob_bytes, self._store.used_ns(info)
            self._owners[info] = Entry(info.uid, info.tokens, size, used_ns, info=info)
        return list(self._owners.values())

    def save(self, entry: Entry, wait_s: float = 0.0) -> list[Entry] | None:
        """Begin to write an entry that has a blob and no file.

        Returns the entries that lost their file to make room, None if this one gets none.
        """
        assert entry.blob is not None
        assert entry.info is None
        if not self._persister.wait_for_room(entry.size_bytes, wait_s):
            self.dropped += 1
            return None
        place = self._store.reserve(entry.uid, entry.tokens, entry.size_bytes, entry.used_ns)
        if place is None:
            return None
        lost = [self._disown(info) for info in place.evicted]
        entry.info, entry.writing = place.info, True
        self._owners[place.info] = entry
        self._persister.write(place.info, entry.blob, entry.used_ns)
        return lost

    def settle(self) -> list[Entry]:
        """Note how writes ended; returns the entries concerned."""
        settled = []
        for outcome in self._persister.outcomes():
            entry = self._owners.get(outcome.info)
            if entry is None:
                continue  # forgotten while it was being written; its removal follows the write
            entry.writing = False
            if not outcome.written:
                self._store.release(outcome.info)
                del self._owners[outcome.info]
                entry.info = None
            settled.append(entry)
        return settled

    def read(self, entry: Entry) -> bytes | None:
        """The blob of an entry on disk, checked; None if the file is not what it was."""
        return None if entry.info is None else self._store.read(entry.info)

    def touch(self, entry: Entry) -> None:
        """Note that the entry was used."""
        if entry.info is not None:
            self._store.touch(entry.info, entry.used_ns)
            self._untold.add(entry.info)

    def tell_times(self) -> None:
        """Tell the files of the uses that they do not know of, for the order after a restart."""
        for info in self._untold:
            if info in self._owners:
                self._persister.set_time(info, self._owners[info].used_ns)
        self._untold.clear()

    def drain(self, timeout_s: float) -> bool:
        """Wait until all writes have ended; False if the time was not enough."""
        return self._persister.drain(timeout_s)

    def forget(self, entry: Entry) -> None:
        """Remove the entry's file, if it has one."""
        if entry.info is not None:
            self._store.release(entry.info)
            self._disown(entry.info)

    def _disown(self, info: SnapshotInfo) -> Entry:
        self._persister.remove(info)
        self._untold.discard(info)
        entry = self._owners.pop(info)
        entry.info, entry.writing = None, False
        return entry

    def check_integrity(self, entries: set[Entry]) -> None:
        """Assert that the files are those of `entries` and no others; for tests."""
        self._store.check_integrity()
        assert set(self._store.entries()) == set(self._owners)
        assert set(self._owners.values()) == {one for one in entries if one.info is not None}
        for info, entry in self._owners.items():
            assert entry.info is info
            assert (info.uid, info.tokens) == (entry.uid, entry.tokens)
            assert self._store.used_ns(info) == entry.used_ns
