"""Snapshots of several models in one directory: none is lost by a switch, none is served wrongly.

1. Files of another model stay, count towards the limit, and go by last use among all.
2. Two stores at once: each sees at its next write what the other has done.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.snapshot_files import SnapshotFiles, SnapshotInfo, forget_snapshots
from qwend.engine.snapshot_store import FILES_LIMIT, SnapshotStore
from tests.support.daemon import wait_until

A, B = b"model a", b"model b"
TOKENS = tuple(range(40))
SIZE = 388  # of a file with a blob of 100 bytes


def store_at(path: Path, model: bytes, limit: int = 100_000, now_ns: int = 1) -> SnapshotStore:
    """One whose clock stands, so that each use is one later than all before."""
    store = SnapshotStore(path, limit, model, clock=lambda: now_ns)
    assert store.reason is None
    store.check_integrity()
    return store


def write(store: SnapshotStore, first: int, size: int = 100) -> SnapshotInfo | None:
    written = store.write(1000, (first, *TOKENS), bytes([first % 256]) * size)
    store.check_integrity()
    return written


def firsts(store: SnapshotStore) -> list[int]:
    return [info.tokens[0] for info in store.entries()]


def kept_by(path: Path, model: bytes) -> list[int]:
    """What a start of this model would find."""
    store = store_at(path, model)
    try:
        assert all(store.read(one) == bytes([one.tokens[0]]) * 100 for one in store.entries())
        return firsts(store)
    finally:
        store.close()


def total_bytes(path: Path) -> int:
    return sum(one.stat().st_size for one in path.glob("[0-9a-f]*.snapshot"))


@pytest.mark.row("C3")
def test_a_models_snapshots_survive_a_start_with_another_and_serve_it_again(tmp_path: Path) -> None:
    a = store_at(tmp_path, A)
    info = a.write(1000, TOKENS, b"cells")
    assert info is not None
    a.close()
    b = store_at(tmp_path, B)
    assert b.entries() == []
    assert b.used_bytes == 0
    # The very same tokens of the same user.
    theirs = b.write(1000, TOKENS, b"other cells")
    assert theirs is not None
    b.close()
    again = store_at(tmp_path, A)
    (found,) = again.entries()
    assert again.read(found) == b"cells"
    assert again.read(theirs) == b"other cells"  # by its own header; no entry here
    assert firsts(store_at(tmp_path, B)) == [0]


def test_room_is_made_of_what_another_model_used_longest_ago(tmp_path: Path) -> None:
    a = store_at(tmp_path, A)
    for first in (1, 2, 3):
        write(a, first)
    a.close()
    b = store_at(tmp_path, B, 4 * SIZE)
    for first, left in ((4, [1, 2, 3]), (5, [2, 3]), (6, [3])):
        assert write(b, first) is not None
        assert kept_by(tmp_path, A) == left
    assert firsts(b) == [4, 5, 6]
    assert total_bytes(tmp_path) <= 4 * SIZE


def test_what_is_ours_goes_first_where_it_was_used_longer_ago(tmp_path: Path) -> None:
    a = store_at(tmp_path, A)
    write(a, 1)
    b = store_at(tmp_path, B)
    write(b, 2)
    b.close()
    a = store_at(tmp_path, A, 2 * SIZE)
    assert write(a, 3) is not None
    assert firsts(a) == [3]
    assert kept_by(tmp_path, B) == [2]


def test_what_another_model_used_later_makes_no_room(tmp_path: Path) -> None:
    for first in (1, 2):
        write(store_at(tmp_path, A, now_ns=1_000), first)
    b = store_at(tmp_path, B, 2 * SIZE)
    assert b.reserve(1000, TOKENS, 100, 999) is None
    assert b.reserve(1000, TOKENS, 100, 1_001) is not None


def test_what_another_model_wrote_since_counts_when_a_file_is_written(tmp_path: Path) -> None:
    a, b = store_at(tmp_path, A, 3 * SIZE), store_at(tmp_path, B, 3 * SIZE)
    for first in (1, 2, 3):
        write(a, first)
    assert write(b, 4) is None  # all that was used later, as it turns out
    assert b.failure is None  # no fault of the disk
    assert write(b, 4) is not None
    assert kept_by(tmp_path, A) == [2, 3]
    # And the other finds one of its files gone, as if the disk had lost it.
    assert [a.read(one) is None for one in a.entries()] == [True, False, False]


def test_another_models_files_count_among_the_files_of_a_scan(tmp_path: Path) -> None:
    files = SnapshotFiles(tmp_path, A)
    for number in range(FILES_LIMIT):
        place = tmp_path / files.info(1000, (number,), 0, 0).name
        place.write_bytes(b"")
        os.utime(place, ns=(number, number))
    b = store_at(tmp_path, B, now_ns=FILES_LIMIT)
    assert write(b, 1) is not None
    assert len(list(tmp_path.iterdir())) == FILES_LIMIT
    assert not (tmp_path / files.info(1000, (0,), 0, 0).name).exists()


def test_a_lower_limit_at_a_start_takes_the_oldest_of_all_models(tmp_path: Path) -> None:
    for model, first in ((A, 1), (B, 2), (A, 3), (B, 4)):
        write(store_at(tmp_path, model), first)
    b = store_at(tmp_path, B, 2 * SIZE)
    assert firsts(b) == [4]
    assert kept_by(tmp_path, A) == [3]
    assert len(b.files.others) == 1  # what went counts no more
    # One that is over the limit alone takes no others along.
    write(store_at(tmp_path, A), 5, size=5_000)
    assert firsts(store_at(tmp_path, B, 2 * SIZE)) == [4]
    assert kept_by(tmp_path, A) == [3]


def test_a_clock_that_was_set_back_does_not_make_another_models_files_the_newer(
    tmp_path: Path,
) -> None:
    """A board without a battery starts in the past of what it has written before."""
    late = store_at(tmp_path, A, now_ns=5_000_000_000)
    write(late, 1)
    late.close()
    b = PrefixCache(200, SnapshotStore(tmp_path, SIZE, B), clock=lambda: 1)
    b.store(1000, (2, *TOKENS), bytes(100))
    assert b.flush()
    assert kept_by(tmp_path, A) == []


def test_when_a_copy_was_bad_every_models_files_go_and_their_engines_go_on(tmp_path: Path) -> None:
    a, b = store_at(tmp_path, A), store_at(tmp_path, B)
    write(a, 1)
    info = write(b, 2)
    (tmp_path / "notes.txt").write_text("mine")
    forget_snapshots(tmp_path)
    forget_snapshots(tmp_path / "none")
    assert os.listdir(tmp_path) == ["notes.txt"]
    assert info is not None
    assert b.read(info) is None
    b.release(info)
    assert write(b, 2) is not None
    assert kept_by(tmp_path, B) == [2]


WRITER = """
import sys, time
from pathlib import Path
from qwend import failpoint
from qwend.engine.snapshot_files import SnapshotFiles
failpoint.set_points({"QWEND_FAIL": "snapshot.fsync:delay(60000)"})
files = SnapshotFiles(Path(sys.argv[1]), b"model a")
files.put(files.info(1000, (1, 2, 3), 100, 1), bytes(100), 1)
"""


@pytest.mark.row("C3")
def test_a_half_written_file_stays_while_its_writer_lives_and_not_longer(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    try:
        (half,) = wait_until(
            lambda: [one for one in tmp_path.glob(".tmp-*") if one.stat().st_size > 100],
            "a file is being written",
        )
        for model in (A, B):
            store_at(tmp_path, model).close()
            assert half.exists()
        # Another engine of the same model does not write into it either.
        twin = SnapshotFiles(tmp_path, A)
        assert not twin.put(twin.info(1000, (1, 2, 3), 100, 1), bytes(100), 1)
        assert half.exists()
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    store_at(tmp_path, B).close()
    assert not half.exists()


def at_once(*works: Callable[[], None]) -> None:
    """Run each in a thread. Raises: whatever the first of them raised."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_two_that_write_at_the_same_time_are_over_the_limit_by_one_file_each(
    tmp_path: Path,
) -> None:
    limit, largest = 20 * SIZE, 2 * SIZE

    def writes(model: bytes) -> Callable[[], None]:
        def work() -> None:
            chance = random.Random(model)
            store = SnapshotStore(tmp_path, limit, model)
            for first in range(150):
                store.write(1000, (first, *TOKENS), bytes([first]) * chance.randrange(100, SIZE))
                assert total_bytes(tmp_path) <= limit + 2 * largest
                for one in store.entries():
                    blob = store.read(one)
                    assert blob is None or set(blob) == {one.tokens[0]}
            store.check_integrity()
            store.close()

        return work

    def total_bytes(path: Path) -> int:
        total = 0
        for one in os.scandir(path):
            if not one.name.startswith("."):
                try:
                    total += one.stat().st_size
                except FileNotFoundError:
                    continue
        return total

    at_once(writes(A), writes(B))
    assert total_bytes(tmp_path) <= limit + 2 * largest
    for model in (A, B):
        assert SnapshotStore(tmp_path, limit, model).entries()
    assert total_bytes(tmp_path) <= limit


class TwoModels(RuleBasedStateMachine):
    """Two stores of one directory. written: every blob that a model has kept for these tokens."""

    LIMIT = 6 * SIZE

    def __init__(self) -> None:
        super().__init__()
        self.place = TemporaryDirectory(prefix="qwend-test-")
        self.path = Path(self.place.name)
        self.clock = 0
        self.stores = [self.open(model) for model in (A, B)]
        self.written: list[dict[int, bytes]] = [{}, {}]

    def open(self, model: bytes) -> SnapshotStore:
        store = SnapshotStore(self.path, self.LIMIT, model, clock=lambda: self.clock)
        assert store.reason is None
        return store

    @rule(which=st.integers(0, 1), first=st.integers(0, 6), size=st.integers(0, 900))
    def write(self, which: int, first: int, size: int) -> None:
        self.clock += 1
        store, blob = self.stores[which], bytes([which, self.clock % 256]) * size
        for old in store.entries():
            if old.tokens[0] == first:
                store.remove(old)
        self.written[which].pop(first, None)
        if store.write(1000, (first, *TOKENS), blob) is not None:
            self.written[which][first] = blob
        # The limit alone: nothing else is written at the same moment.
        assert total_bytes(self.path) <= self.LIMIT

    @precondition(lambda self: any(store.entries() for store in self.stores))
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        which = data.draw(st.sampled_from([n for n in (0, 1) if self.stores[n].entries()]))
        store = self.stores[which]
        info = data.draw(st.sampled_from(store.entries()))
        self.clock += 1
        if store.read(info) is None:  # the other has made room
            store.release(info)
        else:
            store.touch(info, self.clock)
            store.files.set_time(info, self.clock)

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self.stores[which].close()
        self.stores[which] = self.open((A, B)[which])
        assert {info.tokens[0] for info in self.stores[which].entries()} <= {*self.written[which]}
        assert total_bytes(self.path) <= self.LIMIT

    @rule(key=st.binary(min_size=16, max_size=16), size=st.integers(0, 500))
    def a_third_models_engine_writes_and_dies(self, key: bytes, size: int) -> None:
        (self.path / f".tmp-{key.hex()}.snapshot").write_bytes(bytes(size))

    @invariant()
    def each_blob_is_its_models_own(self) -> None:
        for store, written in zip(self.stores, self.written, strict=True):
            store.check_integrity()
            for info in store.entries():
                assert store.read(info) in (None, written[info.tokens[0]])

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.stores = [self.open(A)]
        assert not list(self.path.glob(".tmp-*"))
        self.stores[0].close()
        self.place.cleanup()


TestTwoModels = TwoModels.TestCase
TestTwoModels.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
