"""The snapshot writer: the asking thread never waits for the disk, and knows how each write ended.

The disk here is `GatedFiles`, which does nothing before the test opens its gate.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.engine.persister import Outcome
from qwend.engine.snapshot_files import OtherFile, SnapshotFiles, SnapshotInfo
from qwend.engine.snapshot_writer import SnapshotWriter
from qwend.errors import EngineBug

# Longer than any wait that succeeds; a test that needs it has failed.
PATIENCE_S = 30.0
LIMIT = 100


class GatedFiles(SnapshotFiles):
    """Files whose every call waits for `gate`; `began` says that one does; `calls` in order."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, b"model")
        self.gate = threading.Event()
        self.began = threading.Event()
        self.calls: list[tuple[str, int]] = []
        self.fails = False

    def _pass(self, name: str, info: SnapshotInfo) -> None:
        self.began.set()
        assert self.gate.wait(PATIENCE_S)
        self.calls.append((name, info.tokens[0]))

    def put(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> bool:
        self._pass("put", info)
        return not self.fails and super().put(info, blob, used_ns)

    def unlink(self, info: SnapshotInfo | OtherFile) -> None:
        assert isinstance(info, SnapshotInfo)
        self._pass("unlink", info)
        super().unlink(info)

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        self._pass("set_time", info)
        super().set_time(info, used_ns)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[GatedFiles]:
    files = GatedFiles(tmp_path)
    yield files
    files.close()


@pytest.fixture
def writer(files: GatedFiles) -> Iterator[SnapshotWriter]:
    writer = SnapshotWriter(files, LIMIT)
    yield writer
    files.gate.set()
    assert writer.close(PATIENCE_S)


def ask(writer: SnapshotWriter, files: SnapshotFiles, first: int, size: int = 40) -> SnapshotInfo:
    assert writer.wait_for_room(size, 0)
    info = files.info(1000, (first, 2, 3), size, 0)
    writer.write(info, bytes(size), 1)
    return info


def finish(writer: SnapshotWriter, files: GatedFiles) -> list[Outcome]:
    files.gate.set()
    assert writer.drain(PATIENCE_S)
    assert writer.waiting_bytes == 0
    return writer.outcomes()


def test_a_write_ends_in_one_outcome_and_a_file(files: GatedFiles, writer: SnapshotWriter) -> None:
    info = ask(writer, files, 1)
    assert writer.outcomes() == []
    assert finish(writer, files) == [Outcome(info, written=True)]
    assert writer.outcomes() == []
    assert files.read(info) == bytes(40)


def test_a_write_that_fails_says_so(files: GatedFiles, writer: SnapshotWriter) -> None:
    files.fails = True
    info = ask(writer, files, 1)
    assert finish(writer, files) == [Outcome(info, written=False)]


def test_what_is_asked_first_is_done_first(files: GatedFiles, writer: SnapshotWriter) -> None:
    one = ask(writer, files, 1)
    two = ask(writer, files, 2)
    writer.set_time(one, 5)
    assert files.began.wait(PATIENCE_S)
    writer.remove(one)
    assert [outcome.info for outcome in finish(writer, files)] == [one, two]
    assert files.calls == [("put", 1), ("put", 2), ("set_time", 1), ("unlink", 1)]
    assert files.read(one) is None


def test_there_is_room_for_so_many_bytes_the_one_being_written_included(
    files: GatedFiles, writer: SnapshotWriter
) -> None:
    ask(writer, files, 1, size=60)
    assert files.began.wait(PATIENCE_S)
    assert not writer.wait_for_room(41, 0)
    assert writer.wait_for_room(40, 0)
    assert not writer.drain(0)
    with pytest.raises(EngineBug):
        writer.write(files.info(1000, (2,), 41, 0), bytes(41), 1)
    finish(writer, files)
    assert writer.wait_for_room(41, 0)


def test_one_blob_over_the_limit_is_let_in_when_nothing_waits(
    files: GatedFiles, writer: SnapshotWriter
) -> None:
    ask(writer, files, 1, size=10 * LIMIT)
    assert not writer.wait_for_room(1, 0)


def test_a_wait_for_room_ends_when_there_is_some(files: GatedFiles, writer: SnapshotWriter) -> None:
    ask(writer, files, 1, size=LIMIT)
    opener = threading.Thread(target=files.gate.set)
    opener.start()
    assert writer.wait_for_room(LIMIT, PATIENCE_S)
    opener.join()


def test_a_write_that_has_not_begun_is_taken_back(
    files: GatedFiles, writer: SnapshotWriter
) -> None:
    one = ask(writer, files, 1)
    two = ask(writer, files, 2)
    assert files.began.wait(PATIENCE_S)
    writer.remove(two)
    assert writer.waiting_bytes == 40
    assert finish(writer, files) == [Outcome(one, written=True)]
    assert files.calls == [("put", 1)]


def test_taking_back_a_file_spares_its_successor_of_the_same_name(
    files: GatedFiles, writer: SnapshotWriter
) -> None:
    one = ask(writer, files, 1)
    assert files.began.wait(PATIENCE_S)
    writer.remove(one)
    again = ask(writer, files, 1)
    assert again.name == one.name
    assert [outcome.info for outcome in finish(writer, files)] == [one, again]
    assert files.read(again) == bytes(40)


def test_closing_finishes_what_was_asked_and_lets_nothing_in(files: GatedFiles) -> None:
    writer = SnapshotWriter(files, LIMIT)
    info = ask(writer, files, 1)
    assert files.began.wait(PATIENCE_S)
    assert not writer.close(0)
    assert not writer.wait_for_room(1, 0)
    files.gate.set()
    assert writer.close(PATIENCE_S)
    assert files.read(info) == bytes(40)
    assert writer.outcomes() == [Outcome(info, written=True)]


def test_a_blob_is_let_go_when_it_is_written(files: GatedFiles, writer: SnapshotWriter) -> None:
    blob = bytes(40)
    before = sys.getrefcount(blob)
    writer.write(files.info(1000, (1,), 40, 0), blob, 1)
    assert sys.getrefcount(blob) > before
    finish(writer, files)
    assert sys.getrefcount(blob) == before
