"""A power cut after each call of a write, and whatever the disk then kept of it.

1. An old version is there, or none.
2. A new one is written, and each call that changes something is noted.
3. For every beginning of these calls, every directory is rebuilt that a disk may hold then: what
   was not synced is there, missing, cut or holed at sectors of 512 and of 4,096 bytes.
4. Each is exactly the old or the new version, none only where there was none, and the new one once
   the write had returned, where it says that it is durable.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qwend.engine import snapshot
from tests.support.disk import Disk, State, crashes
from tests.support.file_writers import (
    CALIBRATION,
    INDEX,
    NEW,
    OLD,
    RECORD,
    SNAPSHOT,
    Writer,
)

EACH = pytest.mark.parametrize(
    ("writer", "least_states"),
    # The index lies in memory, with the copy, and is not synced: a file that is half of one is no
    # index (test_warm_copy.py). So a power cut concerns the other three.
    [(SNAPSHOT, 500), (RECORD, 150), (CALIBRATION, 150)],
    ids=lambda value: value.name if isinstance(value, Writer) else "",
)


@pytest.fixture(autouse=True)
def several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PIECE_BYTES", 16_384)


def contents(directory: Path) -> State:
    if not directory.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def states(
    writer: Writer, place: Path, *, old: bool, obeys: bool = True
) -> list[tuple[State, bool]]:
    """What may be on the disk during and after a write of the new version."""
    directory = place / "noted" / "files"
    directory.mkdir(parents=True, mode=0o700)
    if old:
        assert writer.write(directory, OLD)
    before = contents(directory)
    disk = Disk(obeys=obeys)
    with pytest.MonkeyPatch.context() as patch:
        disk.stand_in(patch, *writer.modules)
        assert writer.write(directory, NEW)
    found: dict[tuple[object, ...], tuple[State, bool]] = {}
    for state, returned in crashes(before, disk.ops):
        found[(frozenset(state.items()), returned)] = state, returned
    return list(found.values())


def load(writer: Writer, place: Path, state: State) -> int | None:
    directory = place / "rebuilt" / "files"
    shutil.rmtree(directory.parent, ignore_errors=True)
    directory.mkdir(parents=True, mode=0o700)
    for name, data in state.items():
        (directory / name).write_bytes(data)
    return writer.load(directory)


@pytest.mark.row("C2")
@EACH
def test_after_a_power_cut_there_is_the_old_version_or_the_new_one(
    writer: Writer, least_states: int, tmp_path: Path
) -> None:
    found = states(writer, tmp_path, old=True)
    assert len(found) >= least_states
    loaded = {(load(writer, tmp_path, state), returned) for state, returned in found}
    assert loaded >= {(OLD, False), (NEW, True)}
    assert loaded <= {(OLD, False), (NEW, False), (NEW, True)} | (
        set() if writer.durable else {(OLD, True)}
    )


@pytest.mark.row("C2")
@EACH
def test_after_a_power_cut_during_the_first_write_there_is_none_or_all_of_it(
    writer: Writer, least_states: int, tmp_path: Path
) -> None:
    found = states(writer, tmp_path, old=False)
    assert len(found) >= least_states
    loaded = {(load(writer, tmp_path, state), returned) for state, returned in found}
    assert loaded >= {(None, False), (NEW, True)}
    assert loaded <= {(None, False), (NEW, False), (NEW, True)} | (
        set() if writer.durable else {(None, True)}
    )


@pytest.mark.row("C2")
def test_what_a_power_cut_has_left_of_a_snapshot_is_removed_at_the_next_start(
    tmp_path: Path,
) -> None:
    for state, _ in states(SNAPSHOT, tmp_path, old=True)[::7]:
        load(SNAPSHOT, tmp_path, state)
        left = contents(tmp_path / "rebuilt" / "files")
        assert not any(name.startswith(".") for name in left)


@pytest.mark.parametrize("writer", [SNAPSHOT, CALIBRATION], ids=lambda writer: writer.name)
def test_a_disk_that_only_says_it_has_synced_is_found_out_by_these_tests(
    writer: Writer, tmp_path: Path
) -> None:
    # None although there was an old one: this is what the fsync before the rename is for.
    found = states(writer, tmp_path, old=True, obeys=False)
    assert any(load(writer, tmp_path, state) is None for state, _ in reversed(found))


def test_no_half_written_index_of_the_warm_copy_is_taken_for_one(tmp_path: Path) -> None:
    found = states(INDEX, tmp_path, old=True)
    assert {load(INDEX, tmp_path, state) for state, _ in found} == {None, OLD, NEW}
