"""Prefix cache: what idle sequences leave behind, so that nobody prefills the same text twice.

Owns which entries there are, whose they are, and what stays in memory. Knows nothing of cells or
steps: the scheduler asks for the best match and restores it. Idle prefixes live here and never in
cells, because without flash attention every row pays for every used cell, idle ones too.

An entry belongs to the uid whose request made it; PUBLIC_UID's entries serve everyone. Nobody can
learn from timing what another uid has asked. One thread, the engine's, calls all of this.

| an entry is | blob | info | writing | its bytes count in |
|---|---|---|---|---|
| in memory | yes | | | used_bytes |
| in memory, with a file or soon | yes | yes | either | used_bytes and disk_bytes |
| leaving memory | yes | yes | yes | disk_bytes; the writer bounds its blobs |
| on disk | no | yes | no | disk_bytes |
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qwend.engine.disk_tier import DiskTier
from qwend.engine.persister import InlinePersister, Persister
from qwend.engine.prefix_entries import Entry, PrefixEntries, quickest
from qwend.engine.prefix_tree import common_prefix as common_prefix
from qwend.engine.request import PUBLIC_UID
from qwend.engine.snapshot_store import SnapshotStore

# Below this a restore saves less than it costs. It takes 1 ms, eight rows of a prompt 20 to 40 ms
# (0.5B on two cores). The default system prompt has 11 tokens, and every conversation begins so.
MIN_TOKENS = 8
# An orderly stop may wait this long for the disk: 64 MiB on an SD card that writes 10 MB/s.
FLUSH_S = 7.0


@dataclass(frozen=True, slots=True)
class Hit:
    """`count` leading tokens of the prompt are the leading tokens of `entry`."""

    entry: Entry
    count: int


class PrefixCache:
    """Idle entries in memory and on disk, each tier bounded in bytes, by last use.

    limit_bytes: of the memory tier. disk: the disk tier, if any; one with a `reason` is none.
    whole_only: for models whose memory cannot be cut back (recurrent): an entry serves only a
    prompt that begins with all of its tokens.
    persist: who writes the files; without it they are written on the spot.
    clock: Unix time in ns.
    """

    def __init__(
        self,
        limit_bytes: int,
        disk: SnapshotStore | None = None,
        *,
        whole_only: bool = False,
        persist: Persister | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._clock = clock
        self._last_ns = 0
        self._entries = PrefixEntries(whole_only=whole_only)
        self._memory: OrderedDict[Entry, None] = OrderedDict()
        self._disk: DiskTier | None = None
        if disk is not None and disk.reason is None:
            self._disk = DiskTier(disk, persist or InlinePersister(disk.files))
            self._last_ns = disk.latest_ns()
            for entry in self._disk.adopt():
                self._entries.add(entry)

    def __len__(self) -> int:
        """Number of entries in all tiers."""
        return len(self._entries)

    @property
    def disk_bytes(self) -> int:
        """Bytes of the files that there are, or will be soon."""
        return self._disk.used_bytes if self._disk else 0

    @property
    def dropped(self) -> int:
        """Snapshots that never reached the disk because too many waited for it."""
        return self._disk.dropped if self._disk else 0

    def entries(self) -> Iterator[Entry]:
        """All entries, in no order."""
        return iter(self._entries)

    def lookup(self, uid: int, prompt: Sequence[int]) -> Hit | None:
        """The entry that shares the most leading tokens with the prompt, if worth a restore.

        Give only the tokens that may be reused: for an answer all but the last, whose logits it
        starts from. With whole_only that is the difference between a shorter entry and none.
        """
        self.collect()
        prompt = tuple(prompt)
        hits = []
        for one in (uid,) if uid == PUBLIC_UID else (uid, PUBLIC_UID):
            found = self._entries.best(one, prompt)
            if found is not None and found[1] >= MIN_TOKENS:
                hits.append(Hit(*found))
                # The public beginning of a conversation is in use as long as the conversation is.
                self._touch(found[0])
        return min(hits, key=lambda hit: (-hit.count, quickest(hit.entry)), default=None)

    def load(self, entry: Entry) -> bytes | None:
        """The entry's blob, which is then in memory if it fits there.

        None: the entry is gone, or its file was not as it was written and is gone now. Reading
        from disk takes as long as the disk does.
        """
        if entry not in self._entries:
            return None
        self._touch(entry)
        blob = entry.blob
        if blob is None and self._disk:
            blob = self._disk.read(entry)
            # Few enough that their files can be told, so that a crash does not lose their order.
            self._disk.tell_times()
        if blob is None:
            self.forget(entry)
            return None
        if entry not in self._memory and entry.size_bytes <= self.limit_bytes:
            self._keep(entry, blob)
        return blob

    def covers(self, uid: int, tokens: Sequence[int]) -> bool:
        """True if storing these tokens would add nothing: an entry begins with all of them.

        With whole_only: an entry holds exactly them.
        """
        tokens = tuple(tokens)
        return any(self._entries.covers(one, tokens) for one in (uid, PUBLIC_UID))

    def store(self, uid: int, tokens: Sequence[int], blob: bytes) -> bool:
        """Keep the blob. False: larger than the memory tier.

        Entries that it continues are replaced, unless whole_only; their files go when this one
        has its own, so that a crash in between loses no more than what was new.
        """
        if len(blob) > self.limit_bytes:
            return False
        self.collect()
        tokens = tuple(tokens)
        for old in self._entries.continued(uid, tokens):
            if old.on_disk and len(old.tokens) < len(tokens):
                self._release(old)
            else:
                self.forget(old)
        entry = Entry(uid, tokens, len(blob), self._now())
        self._entries.add(entry)
        self._keep(entry, blob)
        if uid == PUBLIC_UID:
            # The default system prompt must come back even after a crash.
            self._save(entry)
        return True

    def forget(self, entry: Entry) -> None:
        """Drop an entry from all tiers, as when the model refused it; twice is harmless."""
        if entry in self._entries:
            if self._disk:
                self._disk.forget(entry)
            self._drop(entry)

    def drop(self, uid: int, tokens: Sequence[int]) -> None:
        """Forget the uid's entry of exactly these tokens, if there is one."""
        tokens = tuple(tokens)
        found = self._entries.best(uid, tokens)
        if found is not None and found[0].tokens == tokens:
            self.forget(found[0])

    def shrink(self, limit_bytes: int) -> None:
        """Hold at most so many bytes in memory from now on; what is too much leaves at once."""
        self.limit_bytes = limit_bytes
        self._trim()

    def collect(self) -> None:
        """Note what the persister has finished. `lookup` and `store` do so too."""
        if self._disk is None:
            return
        for entry in self._disk.settle():
            if entry.on_disk:
                self._forget_files_before(entry)
            if entry in self._entries and entry not in self._memory:
                self._leave(entry)

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """For an orderly stop: write what is in memory alone, the most recently used first.

        True: all of it is on disk. Ends after about `timeout_s` in any case. Close the persister
        after this: files that became useless are still to be removed.
        """
        if self._disk is None:
            return not self._memory
        until = time.monotonic() + timeout_s
        self.collect()
        for entry in reversed(list(self._memory)):
            if entry.info is None:
                self._save(entry, max(0.0, until - time.monotonic()))
        self._disk.tell_times()
        self._disk.drain(max(0.0, until - time.monotonic()))
        self.collect()
        return all(entry.on_disk for entry in self._entries)

    def _now(self) -> int:
        # Unique and rising, even where the clock was set back or has no battery.
        self._last_ns = max(self._clock(), self._last_ns + 1)
        return self._last_ns

    def _touch(self, entry: Entry) -> None:
        entry.used_ns = self._now()
        if entry in self._memory:
            self._memory.move_to_end(entry)
        if self._disk:
            self._disk.touch(entry)

    def _keep(self, entry: Entry, blob: bytes) -> None:
        """Put the blob into the memory tier; the entry must be the last used."""
        entry.blob = blob
        self._memory[entry] = None
        self.used_bytes += entry.size_bytes
        self._trim()

    def _trim(self) -> None:
        while self.used_bytes > self.limit_bytes:
            oldest = next(iter(self._memory))
            if oldest.info is None:
                self._save(oldest)
            self._release(oldest)

    def _release(self, entry: Entry) -> None:
        """Take it out of the memory tier, if it is there."""
        if entry in self._memory:
            del self._memory[entry]
            self.used_bytes -= entry.size_bytes
        self._leave(entry)

    def _leave(self, entry: Entry) -> None:
        """Settle what is not in the memory tier: it is on disk, on its way there, or gone."""
        if entry.on_disk:
            entry.blob = None
        elif not entry.writing:
            self._drop(entry)

    def _save(self, entry: Entry, wait_s: float = 0.0) -> None:
        lost = self._disk.save(entry, wait_s) if self._disk else None
        for other in lost or ():
            if other not in self._memory:
                self._drop(other)

    def _forget_files_before(self, entry: Entry) -> None:
        """A new file makes those useless that it continues."""
        for old in self._entries.continued(entry.uid, entry.tokens):
            if old is not entry and old not in self._memory:
                self.forget(old)

    def _drop(self, entry: Entry) -> None:
        """Take it out of memory and tree; it has no file."""
        if entry in self._memory:
            del self._memory[entry]
            self.used_bytes -= entry.size_bytes
        entry.blob = None
        self._entries.remove(entry)

    def check_integrity(self) -> None:
        """Assert that the accounting is right; for tests."""
        assert self.used_bytes == sum(entry.size_bytes for entry in self._memory)
        assert self.used_bytes <= self.limit_bytes
        times = [entry.used_ns for entry in self._memory]
        assert times == sorted(set(times))
        self._entries.check_integrity()
        assert all(entry in self._entries for entry in self._memory)
        for entry in self._entries:
            assert entry in self._memory or entry.info is not None, "it is nowhere"
            assert (entry.blob is not None) == (entry in self._memory or entry.writing)
            assert entry.blob is None or len(entry.blob) == entry.size_bytes
        if self._disk:
            self._disk.check_integrity(set(self._entries))
