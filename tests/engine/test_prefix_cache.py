"""The prefix cache: whose an entry is, what goes first, and how it comes back from disk.

`test_prefix_cache_model.py` compares it with plain models over many operations.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from qwend.engine.persister import InlinePersister
from qwend.engine.prefix_cache import MIN_TOKENS, PrefixCache
from qwend.engine.prefix_entries import Entry, Tier
from qwend.engine.request import PUBLIC_UID
from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo
from qwend.engine.snapshot_store import SnapshotStore
from qwend.engine.snapshot_writer import SnapshotWriter

LONG = tuple(range(40))
A, B, C = ((first, *LONG) for first in (101, 102, 103))
BLOB = b"x" * 10


def cache_with(*entries: tuple[int, tuple[int, ...]], limit: int = 1_000) -> PrefixCache:
    cache = PrefixCache(limit)
    for uid, tokens in entries:
        assert cache.store(uid, tokens, b"x" * 10)
    return cache


def test_the_longest_common_prefix_wins() -> None:
    cache = cache_with((1, LONG[:20]), (1, (*LONG[:30], 99)))
    hit = cache.lookup(1, LONG)
    assert hit is not None
    assert (hit.entry.tokens, hit.count) == ((*LONG[:30], 99), 30)


def test_too_short_a_prefix_is_no_hit() -> None:
    cache = cache_with((1, LONG))
    assert cache.lookup(1, (*LONG[: MIN_TOKENS - 1], 99)) is None
    assert cache.lookup(1, (*LONG[:MIN_TOKENS], 99)) is not None


def test_nobody_hits_what_another_uid_left() -> None:
    cache = cache_with((1, LONG))
    assert cache.lookup(2, LONG) is None
    assert cache.lookup(PUBLIC_UID, LONG) is None
    assert not cache.covers(2, LONG)


def test_everyone_hits_what_is_public() -> None:
    cache = cache_with((PUBLIC_UID, LONG))
    assert cache.lookup(1, LONG) is not None
    assert cache.lookup(2, LONG) is not None


def test_storing_a_continuation_replaces_what_it_continues() -> None:
    cache = cache_with((1, LONG[:20]), (2, LONG[:20]), (1, LONG))
    assert len(cache) == 2
    assert cache.lookup(2, LONG) is not None


def test_the_least_recently_used_goes_first() -> None:
    a, b, c = ((first, *LONG) for first in (101, 102, 103))
    cache = cache_with((1, a), (1, b), limit=20)
    assert cache.lookup(1, a) is not None
    assert cache.store(1, c, b"x" * 10)
    assert cache.lookup(1, b) is None
    assert cache.lookup(1, a) is not None


def test_a_blob_larger_than_the_cache_is_not_kept_and_drops_nothing() -> None:
    cache = cache_with((1, LONG[:20]), limit=15)
    assert not cache.store(1, LONG, b"x" * 16)
    assert cache.lookup(1, LONG) is not None
    assert cache.used_bytes == 10


def test_a_forgotten_entry_is_gone_and_forgetting_twice_is_harmless() -> None:
    cache = cache_with((1, LONG))
    hit = cache.lookup(1, LONG)
    assert hit is not None
    cache.forget(hit.entry)
    cache.forget(hit.entry)
    assert (len(cache), cache.used_bytes) == (0, 0)


@pytest.mark.parametrize("count", [0, 16, 40])
def test_it_covers_every_beginning_of_an_entry(count: int) -> None:
    cache = cache_with((1, LONG))
    assert cache.covers(1, LONG[:count])
    assert not cache.covers(1, (*LONG, 7))


def test_everyone_is_covered_by_what_is_public() -> None:
    cache = cache_with((PUBLIC_UID, LONG))
    assert cache.covers(1, LONG[:20])
    assert not cache_with((1, LONG)).covers(PUBLIC_UID, LONG)


def test_the_public_beginning_of_a_conversation_is_in_use_with_it() -> None:
    # 1. The conversation's own entry matches deeper than the public one it begins with.
    # 2. Room is made: what goes is the entry that nobody asked for since.
    cache = cache_with((PUBLIC_UID, LONG[:20]), (1, LONG), (1, A), limit=30)
    hit = cache.lookup(1, LONG)
    assert hit is not None
    assert hit.entry.uid == 1
    assert cache.store(1, B, BLOB)
    assert {entry.tokens for entry in cache.entries()} == {LONG[:20], LONG, B}


def test_less_memory_drops_the_least_recently_used_at_once() -> None:
    cache = cache_with((1, A), (1, B), (1, C))
    cache.shrink(20)
    cache.check_integrity()
    assert cache.lookup(1, A) is None
    assert cache.lookup(1, B) is not None
    assert not cache.store(1, LONG, bytes(21))


class TestWholeOnly:
    """A memory that cannot be cut back: an entry serves only what begins with all of it."""

    def cache(self) -> PrefixCache:
        cache = PrefixCache(1_000, whole_only=True)
        for length in (20, 30, 40):
            assert cache.store(1, LONG[:length], BLOB)
            cache.check_integrity()
        return cache

    def test_a_continuation_replaces_nothing_but_its_equal(self) -> None:
        cache = self.cache()
        assert cache.store(1, LONG, b"new")
        assert len(cache) == 3
        hit = cache.lookup(1, LONG)
        assert hit is not None
        assert cache.load(hit.entry) == b"new"

    def test_the_longest_whole_entry_is_the_hit(self) -> None:
        for length, count in ((40, 40), (39, 30), (29, 20)):
            hit = self.cache().lookup(1, LONG[:length])
            assert hit is not None
            assert hit.count == len(hit.entry.tokens) == count
        assert self.cache().lookup(1, LONG[:19]) is None

    def test_only_the_same_tokens_are_covered(self) -> None:
        assert self.cache().covers(1, LONG[:30])
        assert not self.cache().covers(1, LONG[:29])


class Disk:
    """A cache with a directory, and its restarts; the writes happen on the spot."""

    def __init__(self, path: Path, memory: int = 20, limit: int = 100_000) -> None:
        self.path, self.memory, self.limit = path, memory, limit
        self.start()

    def start(self) -> None:
        self.store = SnapshotStore(self.path, self.limit, b"model")
        assert self.store.reason is None
        self.files = RecordingFiles(self.path)
        self.cache = PrefixCache(self.memory, self.store, persist=InlinePersister(self.files))
        self.cache.check_integrity()

    def restart(self) -> None:
        self.store.close()
        self.files.close()
        self.start()

    def put(self, uid: int, tokens: tuple[int, ...], blob: bytes = BLOB) -> None:
        assert self.cache.store(uid, tokens, blob)
        self.cache.collect()
        self.cache.check_integrity()

    def entry(self, tokens: tuple[int, ...], uid: int = 1) -> Entry:
        hit = self.cache.lookup(uid, tokens)
        assert hit is not None
        assert hit.count == len(tokens)
        self.cache.check_integrity()
        return hit.entry


class RecordingFiles(SnapshotFiles):
    """Files that note what was written, by the first token."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, b"model")
        self.written: list[int] = []
        self.fails = False

    def put(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> bool:
        self.written.append(info.tokens[0])
        return not self.fails and super().put(info, blob, used_ns)


def test_what_falls_out_of_memory_goes_to_disk_and_comes_back(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(1, A, b"a" * 10)
    disk.put(1, B)
    assert disk.files.written == []
    disk.put(1, C)
    entry = disk.entry(A)
    assert (entry.tier, entry.blob) == (Tier.DISK, None)
    assert disk.cache.used_bytes == 20
    assert disk.cache.disk_bytes == disk.store.used_bytes > 0
    assert disk.cache.load(entry) == b"a" * 10
    disk.cache.check_integrity()
    assert entry.tier is Tier.MEMORY
    disk.cache.collect()
    assert disk.entry(B).tier is Tier.DISK
    disk.cache.shrink(0)
    assert disk.files.written == [101, 102, 103]  # what has a file is not written again


def test_nobody_hits_what_another_uid_has_on_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(1, A)
    disk.cache.flush()
    disk.restart()
    assert disk.cache.lookup(2, A) is None
    assert disk.cache.lookup(PUBLIC_UID, A) is None
    assert not disk.cache.covers(2, A)
    assert disk.entry(A).uid == 1


def test_a_public_entry_is_written_at_once_and_survives_a_crash(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(PUBLIC_UID, A)
    disk.put(1, B)
    assert disk.files.written == [101]
    disk.restart()
    assert len(disk.cache) == 1
    assert disk.cache.load(disk.entry(A, uid=7)) == BLOB


def test_an_orderly_stop_writes_the_most_recently_used_first(tmp_path: Path) -> None:
    disk = Disk(tmp_path, memory=30)
    for tokens in (A, B, C):
        disk.put(1, tokens)
    disk.entry(A)
    assert disk.cache.flush()
    disk.cache.check_integrity()
    assert disk.files.written == [101, 103, 102]
    disk.restart()
    assert [info.tokens for info in disk.store.entries()] == [B, C, A]


def test_an_orderly_stop_pushes_out_only_what_was_used_before(tmp_path: Path) -> None:
    # 1. There is room for two files; A is on disk and was used last, B and C are in memory.
    # 2. C takes the free place, B is older than both and gets none.
    disk = Disk(tmp_path, memory=20, limit=800)
    disk.put(1, A)
    disk.put(1, B)
    disk.put(1, C)
    disk.entry(A)
    assert not disk.cache.flush()
    disk.cache.check_integrity()
    disk.restart()
    assert [info.tokens for info in disk.store.entries()] == [C, A]


def test_uses_after_the_write_count_in_the_order_after_a_restart(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for tokens in (A, B):
        disk.put(PUBLIC_UID, tokens)
    disk.entry(A)
    disk.cache.flush()
    disk.restart()
    assert [info.tokens for info in disk.store.entries()] == [B, A]


def test_a_full_disk_tier_makes_room_for_what_was_used_later(tmp_path: Path) -> None:
    disk = Disk(tmp_path, memory=10, limit=800)
    for tokens in (A, B, C, LONG):
        disk.put(1, tokens)
    assert {entry.tokens for entry in disk.cache.entries()} == {B, C, LONG}
    assert disk.cache.lookup(1, A) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_refused_once_and_gone(tmp_path: Path, damage: str) -> None:
    disk = Disk(tmp_path)
    disk.put(PUBLIC_UID, A)
    disk.restart()
    (path,) = tmp_path.iterdir()
    raw = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        raw[-40] ^= 1
        path.write_bytes(raw if damage == "flip" else raw[:-1])
    entry = disk.entry(A)
    assert disk.cache.load(entry) is None
    disk.cache.check_integrity()
    assert disk.cache.lookup(1, A) is None
    assert (len(disk.cache), disk.cache.disk_bytes, list(tmp_path.iterdir())) == (0, 0, [])
    assert disk.cache.load(entry) is None


def test_a_write_that_fails_costs_that_entry_alone(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(1, A)
    disk.put(1, B)
    disk.files.fails = True
    disk.put(1, C)
    assert {entry.tokens for entry in disk.cache.entries()} == {B, C}
    assert disk.cache.disk_bytes == 0
    assert not disk.cache.flush()
    disk.cache.check_integrity()
    assert {entry.tokens for entry in disk.cache.entries()} == {B, C}


def test_the_file_of_an_old_turn_goes_when_the_new_turn_has_one(tmp_path: Path) -> None:
    # A crash in between loses the new turn only.
    disk = Disk(tmp_path)
    disk.put(1, LONG[:20])
    disk.cache.flush()
    disk.put(1, LONG)
    assert disk.cache.used_bytes == 10
    assert [info.tokens for info in disk.store.entries()] == [LONG[:20]]
    assert disk.entry(LONG).tier is Tier.MEMORY
    disk.cache.flush()
    disk.cache.check_integrity()
    assert [info.tokens for info in disk.store.entries()] == [LONG]
    assert len(list(tmp_path.iterdir())) == 1


def test_storing_the_same_tokens_anew_replaces_the_file(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(PUBLIC_UID, A, b"old")
    disk.put(PUBLIC_UID, A, b"new")
    disk.restart()
    assert disk.cache.load(disk.entry(A)) == b"new"


def test_a_forgotten_entry_leaves_the_disk_too(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(PUBLIC_UID, A)
    disk.cache.forget(disk.entry(A))
    disk.cache.check_integrity()
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_directory_leaves_a_cache_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = PrefixCache(20, SnapshotStore(tmp_path / "file", 1_000, b"model"))
    for tokens in (A, B, C):
        assert cache.store(1, tokens, BLOB)
        cache.check_integrity()
    assert len(cache) == 2
    assert not cache.flush()


class GatedFiles(SnapshotFiles):
    """Files that are not written before the gate is open."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, b"model")
        self.gate = threading.Event()

    def put(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> bool:
        assert self.gate.wait(30)
        return super().put(info, blob, used_ns)


def test_an_entry_on_its_way_to_the_disk_serves_from_memory(tmp_path: Path) -> None:
    # 1. The disk is stuck: A leaves the memory tier, and may not be lost meanwhile.
    # 2. There is no room for B to wait beside it: B is dropped and counted, nobody waits.
    # 3. The disk goes on: A is on disk, and its blob is let go.
    store = SnapshotStore(tmp_path, 100_000, b"model")
    files = GatedFiles(tmp_path)
    writer = SnapshotWriter(files, 10)
    cache = PrefixCache(10, store, persist=writer)
    for tokens in (A, B):
        assert cache.store(1, tokens, BLOB)
        cache.check_integrity()
    hit = cache.lookup(1, A)
    assert hit is not None
    assert hit.entry.tier is Tier.MEMORY
    assert not hit.entry.on_disk
    assert cache.store(1, C, BLOB)
    cache.check_integrity()
    assert cache.dropped == 1
    assert cache.lookup(1, B) is None
    assert not cache.flush(timeout_s=0)
    files.gate.set()
    assert writer.drain(30)
    cache.collect()
    cache.check_integrity()
    assert (hit.entry.tier, hit.entry.on_disk) == (Tier.DISK, True)
    assert cache.flush()
    assert writer.close(30)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_entry_that_is_called_back_before_it_is_written_stays_in_memory(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, 100_000, b"model")
    files = GatedFiles(tmp_path)
    writer = SnapshotWriter(files, 100)
    cache = PrefixCache(10, store, persist=writer)
    for tokens in (A, B):
        assert cache.store(1, tokens, BLOB)
    hit = cache.lookup(1, A)
    assert hit is not None
    assert cache.load(hit.entry) == BLOB
    cache.check_integrity()
    files.gate.set()
    assert cache.flush()
    cache.check_integrity()
    assert (hit.entry.tier, hit.entry.on_disk) == (Tier.MEMORY, True)
    assert writer.close(30)


def test_of_equal_matches_the_quickest_to_load_wins(tmp_path: Path) -> None:
    disk = Disk(tmp_path, memory=40)
    disk.put(1, (*LONG, 1), bytes(5))
    disk.cache.shrink(0)
    disk.cache.collect()
    disk.cache.shrink(40)
    disk.put(1, (*LONG, 2), bytes(20))
    disk.put(1, (*LONG, 3), bytes(10))
    order = []
    while (hit := disk.cache.lookup(1, LONG)) is not None:
        order.append((hit.entry.tier, hit.entry.size_bytes))
        disk.cache.forget(hit.entry)
        disk.cache.check_integrity()
    assert order == [(Tier.MEMORY, 10), (Tier.MEMORY, 20), (Tier.DISK, 5)]


def test_what_no_longer_fits_into_memory_is_loaded_all_the_same(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.put(PUBLIC_UID, A)
    disk.memory = 9
    disk.restart()
    disk.put(1, B, b"small")
    entry = disk.entry(A)
    assert disk.cache.load(entry) == BLOB
    disk.cache.check_integrity()
    assert (entry.tier, disk.entry(B).tier) == (Tier.DISK, Tier.MEMORY)


def test_a_load_from_disk_counts_as_use_even_after_a_crash(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    for tokens in (A, B):
        disk.put(PUBLIC_UID, tokens)
    disk.restart()
    assert disk.cache.load(disk.entry(A)) == BLOB
    disk.restart()
    assert [info.tokens for info in disk.store.entries()] == [B, A]


def test_an_entry_in_memory_may_lose_its_file(tmp_path: Path) -> None:
    disk = Disk(tmp_path, memory=100, limit=800)
    for tokens in (A, B, C):
        disk.put(PUBLIC_UID, tokens)
    assert [info.tokens for info in disk.store.entries()] == [B, C]
    entry = disk.entry(A)
    assert (entry.tier, entry.on_disk) == (Tier.MEMORY, False)
    assert disk.cache.load(entry) == BLOB


def test_two_files_that_are_done_at_once_may_be_of_one_conversation(tmp_path: Path) -> None:
    # The beginning was stored after its continuation, whose file makes the other useless.
    disk = Disk(tmp_path)
    disk.put(1, LONG)
    disk.put(1, LONG[:20])
    disk.cache.shrink(0)
    disk.cache.collect()
    disk.cache.check_integrity()
    assert [entry.tokens for entry in disk.cache.entries()] == [LONG]


def test_a_clock_that_stands_still_does_not_confuse_the_order(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, 800, b"model", clock=lambda: 7)
    cache = PrefixCache(10, store, clock=lambda: 7)
    for tokens in (A, B, C, LONG):
        assert cache.store(1, tokens, BLOB)
        cache.collect()
        cache.check_integrity()
    assert {entry.tokens for entry in cache.entries()} == {B, C, LONG}
