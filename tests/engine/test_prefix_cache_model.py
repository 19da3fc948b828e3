"""The prefix cache against plain models, over many operations in any order.

1. In memory alone every answer and every eviction is known: the model is a list by last use.
2. With a disk that is late, full, damaged or restarted, what is left depends on it; but whatever
   is there must match as by brute force, be of the right uid, and load as it was stored.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from qwend.engine.persister import InlinePersister, Outcome
from qwend.engine.prefix_cache import MIN_TOKENS, Hit, PrefixCache, common_prefix
from qwend.engine.prefix_entries import Tier
from qwend.engine.request import PUBLIC_UID
from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo
from qwend.engine.snapshot_store import SnapshotStore

pytestmark = pytest.mark.row("F7")

Tokens = tuple[int, ...]
TOKENS = st.builds(
    lambda head, tail: tuple([head] * MIN_TOKENS + tail),
    st.integers(0, 1),
    st.lists(st.integers(0, 1), max_size=4),
)
UIDS = st.sampled_from((PUBLIC_UID, 1, 2))


class InMemoryAlone(RuleBasedStateMachine):
    """The model is a list of (uid, tokens, size), least recently used first."""

    LIMIT = 60

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(self.LIMIT)
        self.model: list[tuple[int, Tokens, int]] = []

    @rule(uid=UIDS, tokens=TOKENS, size=st.integers(1, 70))
    def store(self, uid: int, tokens: Tokens, size: int) -> None:
        limit = self.cache.limit_bytes
        assert self.cache.store(uid, tokens, b"x" * size) == (size <= limit)
        if size > limit:
            return
        self.model = [one for one in self.model if one[0] != uid or one[1] != tokens[: len(one[1])]]
        self.model.append((uid, tokens, size))
        self.trim()

    @rule(limit=st.integers(0, 80))
    def shrink(self, limit: int) -> None:
        self.cache.shrink(limit)
        self.trim()

    def trim(self) -> None:
        while sum(one[2] for one in self.model) > self.cache.limit_bytes:
            del self.model[0]

    def looked_up(self, uid: int, prompt: Tokens) -> Hit | None:
        counts = {}
        for one in self.model:
            if one[0] in (uid, PUBLIC_UID):
                counts[one] = common_prefix(one[1], prompt)
        hit = self.cache.lookup(uid, prompt)
        most = max(counts.values(), default=0)
        assert (hit is not None) == (most >= MIN_TOKENS)
        # An own and a public match are both in use; of several the cache chooses one, and that
        # shows in its own times of use.
        times = {(e.uid, e.tokens, e.size_bytes): e.used_ns for e in self.cache.entries()}
        self.model.sort(key=lambda one: times[one])
        if hit is not None:
            used = (hit.entry.uid, hit.entry.tokens, hit.entry.size_bytes)
            assert hit.count == most == counts[used]
            assert used in self.model[-2:]
        return hit

    @rule(uid=UIDS, prompt=TOKENS)
    def lookup(self, uid: int, prompt: Tokens) -> None:
        before = list(self.model)
        hit = self.looked_up(uid, prompt)
        moved = [one for one in self.model if one in self.model[-2:]]
        rest = [one for one in before if one not in moved]
        assert [one for one in self.model if one not in moved] == rest
        if hit is None:
            assert self.model == before

    @rule(uid=UIDS, prompt=TOKENS)
    def load(self, uid: int, prompt: Tokens) -> None:
        hit = self.looked_up(uid, prompt)
        if hit is not None:
            used = (hit.entry.uid, hit.entry.tokens, hit.entry.size_bytes)
            assert self.cache.load(hit.entry) == b"x" * used[2]
            self.model.remove(used)
            self.model.append(used)

    @rule(uid=UIDS, tokens=TOKENS)
    def covers(self, uid: int, tokens: Tokens) -> None:
        assert self.cache.covers(uid, tokens) == any(
            one[0] in (uid, PUBLIC_UID) and one[1][: len(tokens)] == tokens for one in self.model
        )

    @rule(uid=UIDS, prompt=TOKENS)
    def forget(self, uid: int, prompt: Tokens) -> None:
        hit = self.looked_up(uid, prompt)
        if hit is not None:
            self.cache.forget(hit.entry)
            assert self.cache.load(hit.entry) is None
            self.model.remove((hit.entry.uid, hit.entry.tokens, hit.entry.size_bytes))

    @invariant()
    def agrees(self) -> None:
        self.cache.check_integrity()
        assert len(self.cache) == len(self.model)
        assert self.cache.used_bytes == sum(one[2] for one in self.model)


class LatePersister(InlinePersister):
    """Does what it was asked only when the test says so; may have no room, may fail to write."""

    def __init__(self, files: SnapshotFiles) -> None:
        super().__init__(files)
        self.waiting: list[tuple[str, SnapshotInfo, bytes, int]] = []
        self.room = True
        self.fails = False

    def wait_for_room(self, size_bytes: int, timeout_s: float) -> bool:
        return self.room

    def write(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> None:
        self.waiting.append(("write", info, blob, used_ns))

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        self.waiting.append(("set_time", info, b"", used_ns))

    def remove(self, info: SnapshotInfo) -> None:
        self.waiting.append(("remove", info, b"", 0))

    def work(self, count: int) -> None:
        for action, info, blob, used_ns in self.waiting[:count]:
            if action == "write" and self.fails:
                self._outcomes.append(Outcome(info, written=False))
            elif action == "write":
                super().write(info, blob, used_ns)
            elif action == "set_time":
                super().set_time(info, used_ns)
            else:
                super().remove(info)
        del self.waiting[:count]

    def drain(self, timeout_s: float) -> bool:
        self.work(len(self.waiting))
        return True


class WithADisk(RuleBasedStateMachine):
    """The model is what was ever stored: (uid, tokens) -> every blob it was stored with."""

    MEMORY = 60
    DISK = 1_200  # about five files: a header is some 110 bytes, tokens 80, a blob up to 30

    @initialize(whole_only=st.booleans())
    def start(self, whole_only: bool) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.whole_only = whole_only
        self.stored: dict[tuple[int, Tokens], list[bytes]] = {}
        self.number = 0
        self.other = SnapshotStore(self.directory, self.DISK, b"another model")
        self.open()

    def open(self) -> None:
        self.disk = SnapshotStore(self.directory, self.DISK, b"model")
        assert self.disk.reason is None
        self.late = LatePersister(self.disk.files)
        self.cache = PrefixCache(
            self.MEMORY, self.disk, whole_only=self.whole_only, persist=self.late
        )

    def teardown(self) -> None:
        self.disk.close()
        self.other.close()
        shutil.rmtree(self.directory)

    @rule(uid=UIDS, tokens=TOKENS, size=st.integers(4, 70))
    def store(self, uid: int, tokens: Tokens, size: int) -> None:
        self.number += 1
        blob = self.number.to_bytes(4, "big").ljust(size, b"x")
        assert self.cache.store(uid, tokens, blob) == (size <= self.MEMORY)
        if size <= self.MEMORY:
            self.stored.setdefault((uid, tokens), []).append(blob)
            assert self.cache.covers(uid, tokens)
            # Whatever went to make room, what was stored last is there.
            hit = self.cache.lookup(uid, tokens)
            assert hit is not None
            assert hit.count == len(tokens)

    @rule(uid=UIDS, prompt=TOKENS)
    def use(self, uid: int, prompt: Tokens) -> None:
        hit = self.cache.lookup(uid, prompt)
        counts = []
        for entry in self.cache.entries():
            count = common_prefix(entry.tokens, prompt)
            if entry.uid in (uid, PUBLIC_UID) and count >= MIN_TOKENS:
                counts.append(count if not self.whole_only or count == len(entry.tokens) else 0)
        if hit is None:
            assert not any(counts)
            return
        assert hit.count == max(counts) == common_prefix(hit.entry.tokens, prompt)
        assert hit.entry.uid in (uid, PUBLIC_UID)
        self.cache.check_integrity()
        blob = self.cache.load(hit.entry)
        if blob is None:
            assert hit.entry not in list(self.cache.entries())
        else:
            # The newest: an older blob of the same tokens was replaced.
            assert blob in self.stored[hit.entry.uid, hit.entry.tokens]
            assert hit.entry.tier is Tier.MEMORY

    @rule(uid=UIDS, prompt=TOKENS)
    def forget(self, uid: int, prompt: Tokens) -> None:
        hit = self.cache.lookup(uid, prompt)
        if hit is not None:
            self.cache.forget(hit.entry)
            assert hit.entry not in list(self.cache.entries())

    @rule(count=st.integers(1, 5))
    def the_disk_works(self, count: int) -> None:
        self.late.work(count)

    @rule(room=st.booleans(), fails=st.booleans())
    def the_disk_changes(self, room: bool, fails: bool) -> None:
        self.late.room, self.late.fails = room, fails

    @rule(limit=st.integers(0, 60))
    def shrink(self, limit: int) -> None:
        self.cache.shrink(limit)
        self.cache.check_integrity()
        self.cache.shrink(self.MEMORY)

    @precondition(lambda self: any(self.directory.iterdir()))
    @rule(data=st.data())
    def a_file_is_damaged_or_lost(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.directory.iterdir())))
        raw = bytearray(path.read_bytes())
        at = data.draw(st.integers(-1, len(raw) - 1))
        if at < 0:
            path.unlink()
        else:
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
            path.write_bytes(raw)

    @rule(head=st.integers(0, 3), size=st.integers(0, 300))
    def an_engine_of_another_model_writes(self, head: int, size: int) -> None:
        for old in self.other.entries():
            if old.tokens[0] == head:
                self.other.remove(old)
        self.other.write(1, [head] * MIN_TOKENS, b"y" * size)
        self.other.check_integrity()

    @rule()
    def restart_in_order(self) -> None:
        self.late.room, self.late.fails = True, False
        self.cache.flush()
        self.cache.check_integrity()
        # As the end of the writer does: what the last files made useless is still to be removed.
        self.late.drain(0)
        on_disk = {(entry.uid, entry.tokens) for entry in self.cache.entries() if entry.on_disk}
        self.disk.close()
        self.open()
        # Less only by what was damaged.
        assert {(entry.uid, entry.tokens) for entry in self.cache.entries()} <= on_disk

    @rule()
    def crash(self) -> None:
        self.disk.close()
        self.open()

    @invariant()
    def is_whole(self) -> None:
        self.cache.check_integrity()
        for entry in self.cache.entries():
            assert (entry.uid, entry.tokens) in self.stored
        assert self.cache.disk_bytes <= self.DISK
        files = [path.stat().st_size for path in self.directory.iterdir()]
        assert sum(files) <= self.DISK, "of both models together"


InMemoryAlone.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestInMemoryAlone = InMemoryAlone.TestCase
WithADisk.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWithADisk = WithADisk.TestCase
