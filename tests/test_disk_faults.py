"""Every file call of everything that writes files, failing in turn; and a disk that is really full.

For each writer, each call k, and each fault:

1. an old version is there;
2. a new one is written, and call k fails;
3. what is there then is exactly the old or the new one, no temporary file and no descriptor is
   left, and the next write works.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwend.host import warm_copy
from tests.support.disk import FAULTS, SHORT, Disk
from tests.support.file_writers import BLOB_BYTES, NEW, OLD, SNAPSHOT, WRITERS, Writer

PAGE = os.sysconf("SC_PAGE_SIZE")  # what a tmpfs gives at a time
EACH = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
# Writes that end early, and calls that a signal interrupts, are begun again.
HARMLESS = (SHORT, errno.EINTR)


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_copy, "CHUNK_BYTES", 32768)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def temporary_files(directory: Path) -> list[str]:
    return [one.name for one in directory.iterdir() if one.name.startswith(".")]


def with_an_old_version(writer: Writer, place: Path) -> Path:
    place.mkdir()
    directory = place / "files"
    assert writer.write(directory, OLD)
    assert writer.load(directory) == OLD
    return directory


def calls_of(writer: Writer, place: Path) -> list[str]:
    directory = with_an_old_version(writer, place)
    disk = Disk()
    with pytest.MonkeyPatch.context() as patch:
        disk.stand_in(patch, *writer.modules)
        assert writer.write(directory, NEW)
    assert writer.load(directory) == NEW
    return disk.calls


@pytest.mark.row("C4")
@EACH
def test_whichever_call_fails_the_old_or_the_new_version_is_there(
    writer: Writer, tmp_path: Path
) -> None:
    calls = calls_of(writer, tmp_path / "whole")
    assert len(calls) >= 5
    for fault in FAULTS:
        for number, call in enumerate(calls):
            place = tmp_path / f"{fault}-{number}"
            directory = with_an_old_version(writer, place)
            open_before = descriptors()
            disk = Disk(number, fault)
            with pytest.MonkeyPatch.context() as patch:
                disk.stand_in(patch, *writer.modules)
                written = writer.write(directory, NEW)
            told = f"{call}, call {number}, {fault}: {disk.calls}"
            assert disk.failed == call, told
            assert descriptors() == open_before, told
            if call != "unlink":
                assert temporary_files(directory) == [], told
            there = writer.load(directory)
            if fault == SHORT:
                assert written, told
            if writer.keeps:
                assert there in (OLD, NEW), told
            else:
                assert there in (OLD, NEW, None), told
            if not written and call in ("open", "write", "pwrite", "fsync", "posix_fallocate"):
                # Whatever comes before the rename; a directory's fsync comes after.
                before_rename = "rename" not in disk.calls[:number]
                assert there != NEW or not before_rename, told
            assert writer.write(directory, NEW), told
            assert writer.load(directory) == NEW, told
            assert temporary_files(directory) == [], told


@pytest.mark.row("C4")
def test_what_could_not_be_synced_is_thrown_away_and_never_taken_for_good(tmp_path: Path) -> None:
    # A second fsync may succeed though the first has lost the pages (PostgreSQL, 2018).
    calls = calls_of(SNAPSHOT, tmp_path / "whole")
    directory = with_an_old_version(SNAPSHOT, tmp_path / "fails")
    disk = Disk(calls.index("fsync"), errno.EIO)
    with pytest.MonkeyPatch.context() as patch:
        disk.stand_in(patch, *SNAPSHOT.modules)
        assert not SNAPSHOT.write(directory, NEW)
    assert disk.calls.count("fsync") == 1
    assert "rename" not in disk.calls
    assert SNAPSHOT.load(directory) == OLD


@contextmanager
def memory_disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes, where this process may mount one (mount(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    place.mkdir()
    if libc.mount(b"tmpfs", bytes(place), b"tmpfs", 0, f"size={size},mode=700".encode()):
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield place
    finally:
        assert libc.umount2(bytes(place), 2) == 0  # MNT_DETACH


@pytest.mark.row("C4")
@EACH
def test_on_a_disk_that_is_full_nothing_old_is_lost_and_nothing_half_is_left(
    writer: Writer, tmp_path: Path
) -> None:
    outcomes = set()
    for free in range(0, BLOB_BYTES + 4 * PAGE, PAGE):
        with memory_disk(tmp_path / str(free), 2 * BLOB_BYTES + 12 * PAGE) as disk:
            directory = disk / "files"
            assert writer.write(directory, OLD)
            assert writer.load(directory) == OLD
            filler = disk / "filler"
            filler.write_bytes(bytes(os.statvfs(disk).f_bavail * PAGE - free))
            written = writer.write(directory, NEW)
            outcomes.add(written and writer.load(directory) == NEW)
            assert writer.load(directory) in ((OLD, NEW) if writer.keeps else (OLD, NEW, None))
            assert temporary_files(directory) == []
            filler.unlink()
            assert writer.write(directory, NEW)
            assert writer.load(directory) == NEW
    assert outcomes == {False, True}
