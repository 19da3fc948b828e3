"""The snapshot store on a real directory: what survives a restart, what is refused, what goes."""

from __future__ import annotations

import os
import resource
import stat
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from qwend.engine.snapshot import Snapshot, encode
from qwend.engine.snapshot_store import FILES_LIMIT, SnapshotStore

TOKENS = tuple(range(40))
BLOB = b"cells" * 20
LIMIT = 100_000


def store_at(path: Path, limit: int = LIMIT, fingerprint: bytes = b"model") -> SnapshotStore:
    store = SnapshotStore(path, limit, fingerprint)
    assert store.reason is None
    store.check_integrity()
    return store


def write(store: SnapshotStore, first: int, size: int = 100) -> None:
    assert store.write(1000, (first, *TOKENS), bytes(size)) is not None
    store.check_integrity()


def firsts(store: SnapshotStore) -> list[int]:
    return [info.tokens[0] for info in store.entries()]


def names(path: Path) -> set[str]:
    return {one.name for one in path.iterdir()}


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The kernel refuses to write more, in the middle of a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    first = store_at(tmp_path)
    info = first.write(1000, TOKENS, BLOB)
    assert info is not None
    assert first.read(info) == BLOB
    first.close()
    again = store_at(tmp_path)
    (found,) = again.entries()
    assert (found.uid, found.tokens, found.header) == (1000, TOKENS, info.header)
    assert again.used_bytes == found.file_bytes == (tmp_path / found.name).stat().st_size
    assert again.read(found) == BLOB


def test_nobody_else_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(store_at(tmp_path / "state" / "snapshots"), 1)
    finally:
        os.umask(before)
    (path,) = (tmp_path / "state" / "snapshots").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = store_at(tmp_path, 1_200)  # three files of about 380 bytes
    for first in (1, 2, 3):
        write(store, first)
    one = store.entries()[0]
    store.touch(one, store.used_ns(store.entries()[-1]) + 1)
    write(store, 4)
    assert firsts(store) == [3, 1, 4]
    assert len(names(tmp_path)) == 3


def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for first in (1, 2, 3):
        write(store, first)
    one = store.entries()[0]
    store.files.set_time(one, store.used_ns(store.entries()[-1]) + 1)
    store.close()
    assert firsts(store_at(tmp_path)) == [2, 3, 1]


def test_a_clock_that_was_set_back_does_not_change_the_order(tmp_path: Path) -> None:
    write(store_at(tmp_path), 1)
    late = SnapshotStore(tmp_path, LIMIT, b"model", clock=lambda: 5_000_000_000)
    write(late, 2)
    assert firsts(store_at(tmp_path)) == [1, 2]


def test_what_was_used_later_makes_no_room(tmp_path: Path) -> None:
    store = store_at(tmp_path, 1_000)
    for first in (1, 2):
        write(store, first)
    older, newer = store.entries()
    between = store.used_ns(newer)
    assert store.reserve(1000, (3, *TOKENS), 600, between) is None
    assert firsts(store) == [1, 2]
    place = store.reserve(1000, (3, *TOKENS), 100, between)
    assert place is not None
    assert place.evicted == (older,)
    store.check_integrity()


def test_a_snapshot_larger_than_the_limit_is_refused_and_drops_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path, 1_000)
    write(store, 1)
    assert store.write(1000, TOKENS, bytes(1_000)) is None
    assert firsts(store) == [1]
    assert store.failure is None


def test_a_lower_limit_at_the_next_start_is_kept(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for first in (1, 2, 3):
        write(store, first)
    size = store.entries()[0].file_bytes
    assert firsts(store_at(tmp_path, 2 * size)) == [2, 3]
    assert len(names(tmp_path)) == 2
    assert firsts(store_at(tmp_path, 0)) == []
    assert names(tmp_path) == set()


def test_there_are_never_more_files_than_a_start_can_scan(tmp_path: Path) -> None:
    store = store_at(tmp_path, 1 << 30)
    for first in range(FILES_LIMIT + 2):
        place = store.reserve(1000, (first, *TOKENS), 10, first + 1)
        assert place is not None
    store.check_integrity()
    assert len(store.entries()) == FILES_LIMIT
    assert firsts(store)[0] == 2
    assert store.reserve(1000, TOKENS, 10, 1) is None  # older than all
    store.check_integrity()


def test_a_removed_snapshot_is_gone(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write(store, 1)
    (info,) = store.entries()
    store.remove(info)
    store.remove(info)
    store.check_integrity()
    assert (store.entries(), store.used_bytes, names(tmp_path)) == ([], 0, set())
    assert store.read(info) is None


@pytest.mark.row("C3")
def test_every_damaged_file_is_refused_at_the_scan_or_at_the_read(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    info = store.write(1000, TOKENS, BLOB)
    assert info is not None
    path = tmp_path / info.name
    good = path.read_bytes()
    for at in range(0, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        assert store.read(info) is None
        again = store_at(tmp_path)
        assert [again.read(one) for one in again.entries()] in ([], [None])
        again.close()
    path.write_bytes(good)
    assert store.read(info) == BLOB


def test_a_changed_owner_is_noticed_at_the_scan(tmp_path: Path) -> None:
    # 1. A file of uid 1000 is given to uid 1001, checksum and all, under the old name.
    # 2. It is removed: its name is made of the uid.
    ours, theirs = store_at(tmp_path / "a"), store_at(tmp_path / "b")
    mine = ours.write(1000, TOKENS, BLOB)
    forged = theirs.write(1001, TOKENS, BLOB)
    assert mine is not None
    assert forged is not None
    (tmp_path / "b" / forged.name).rename(tmp_path / "a" / mine.name)
    assert ours.read(mine) is None
    assert store_at(tmp_path / "a").entries() == []
    assert names(tmp_path / "a") == set()


@pytest.mark.row("C3")
def test_a_file_of_a_uid_that_cannot_be_is_removed_and_the_others_are_found(tmp_path: Path) -> None:
    """Found by scripts/fuzz: no name could be made of it, and the engine ended at its start."""
    store = store_at(tmp_path)
    good = store.write(1000, TOKENS, BLOB)
    assert good is not None
    header = replace(good.header, uid=2**64 - 1)
    bad = tmp_path / store.files.info(1001, TOKENS, len(BLOB), 1).name
    bad.write_bytes(b"".join(encode(Snapshot(header, TOKENS, BLOB))))
    store.close()
    assert [info.name for info in store_at(tmp_path).entries()] == [good.name]
    assert not bad.exists()


@pytest.mark.row("C3")
def test_a_sparse_file_of_10_gib_is_no_snapshot_and_costs_no_memory(tmp_path: Path) -> None:
    """1. A file whose header asks for 10 GiB that are not on the disk, under the right name. 2. It
    is over the limit, and goes. 3. One in the place of a good file is not read, and refused."""
    store = store_at(tmp_path)
    good = store.write(1000, TOKENS, BLOB)
    assert good is not None
    hollow = store.files.info(1001, TOKENS, 10 << 30, 1)
    (tmp_path / hollow.name).write_bytes(hollow.header.packed() + struct.pack("<40i", *TOKENS))
    os.truncate(tmp_path / hollow.name, hollow.file_bytes)
    tracemalloc.start()
    try:
        again = store_at(tmp_path)
        assert [info.name for info in again.entries()] == [good.name]
        os.truncate(tmp_path / good.name, 10 << 30)
        assert again.read(good) is None
        assert store_at(tmp_path).entries() == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert names(tmp_path) == set()


@pytest.mark.row("C3")
@pytest.mark.parametrize("length", [0, 1, 100, 300])
def test_a_cut_file_is_removed_at_the_scan(tmp_path: Path, length: int) -> None:
    store = store_at(tmp_path)
    info = store.write(1000, TOKENS, BLOB)
    assert info is not None
    os.truncate(tmp_path / info.name, length)
    assert store.read(info) is None
    assert store_at(tmp_path).entries() == []
    assert names(tmp_path) == set()


@pytest.mark.row("C3")
def test_another_models_file_under_our_name_is_removed(tmp_path: Path) -> None:
    ours, theirs = store_at(tmp_path / "a"), store_at(tmp_path / "b", fingerprint=b"other")
    mine, other = ours.write(1000, TOKENS, BLOB), theirs.write(1000, TOKENS, BLOB)
    assert mine is not None
    assert other is not None
    (tmp_path / "b" / other.name).rename(tmp_path / "a" / mine.name)
    assert ours.read(mine) is None
    assert store_at(tmp_path / "a").entries() == []


def test_what_a_writer_that_died_left_is_no_obstacle(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    info = store.write(1000, TOKENS, BLOB)
    assert info is not None
    store.remove(info)
    (tmp_path / f".tmp-{info.name}").write_bytes(b"half")
    assert store.write(1000, TOKENS, BLOB) is not None
    assert names(tmp_path) == {info.name}


@pytest.mark.row("C3")
def test_leftovers_are_removed_and_other_names_are_left_alone(tmp_path: Path) -> None:
    key = "0" * 32
    (tmp_path / f".tmp-{key}.snapshot").write_bytes(b"half")
    os.mkfifo(tmp_path / f".tmp-{key[1:]}1.snapshot")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / f"{key}.snapshot").symlink_to(tmp_path / "notes.txt")
    (tmp_path / f"{key[1:]}1.snapshot").mkdir()
    os.mkfifo(tmp_path / f"{key[1:]}2.snapshot")
    store = store_at(tmp_path)
    assert store.entries() == []
    assert names(tmp_path) == {
        "notes.txt",
        f"{key}.snapshot",
        f"{key[1:]}1.snapshot",
        f"{key[1:]}2.snapshot",
    }
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write(store, 1)
    before, used = names(tmp_path), store.used_bytes
    with files_no_larger_than(1_000):
        assert store.write(1000, TOKENS, bytes(5_000)) is None
    store.check_integrity()
    assert (names(tmp_path), store.used_bytes) == (before, used)
    assert store.failure is not None
    assert "File too large" in store.failure
    assert store.write(1000, TOKENS, bytes(5_000)) is not None


def test_a_directory_that_was_removed_meanwhile_costs_only_the_snapshot(tmp_path: Path) -> None:
    store = store_at(tmp_path / "snapshots")
    write(store, 1)
    (info,) = store.entries()
    (tmp_path / "snapshots" / info.name).unlink()
    (tmp_path / "snapshots").rmdir()
    assert store.write(1000, TOKENS, BLOB) is None
    assert store.failure is not None
    assert store.read(info) is None


def test_an_unusable_directory_says_why_and_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("file", "link", "open", "file/below", "nul\0"):
        store = SnapshotStore(tmp_path / name, LIMIT, b"model")
        assert store.reason is not None
        assert name in store.reason
        assert store.entries() == []
        assert store.write(1000, TOKENS, BLOB) is None
        assert store.reserve(1000, TOKENS, 10, 1) is None
        store.check_integrity()
    assert names(tmp_path) == {"file", "link", "open"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_made_is_unusable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        reason = SnapshotStore(tmp_path / "new", LIMIT, b"model").reason
    finally:
        tmp_path.chmod(0o700)
    assert reason is not None
    assert "Permission denied" in reason


def test_a_closed_store_keeps_its_files_and_serves_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write(store, 1)
    (info,) = store.entries()
    store.close()
    store.close()
    assert store.read(info) is None
    assert store.write(1000, TOKENS, BLOB) is None
    assert store.entries() == []
    assert firsts(store_at(tmp_path)) == [1]


@pytest.mark.row("G2")
def test_the_directory_above_the_files_is_ours_alone_too(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        SnapshotStore(tmp_path / "engine" / "prefixes", 1 << 20, bytes(32)).close()
    finally:
        os.umask(before)
    assert (tmp_path / "engine").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "engine" / "prefixes").stat().st_mode & 0o777 == 0o700
