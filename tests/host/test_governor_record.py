"""The record is whole or refused, private, and durable."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qwend.errors import HostError
from qwend.host.cpufreq import Knob
from qwend.host.governor_record import BOOT_ID, Record, drop_record, load_record, store_record

from .conftest import FakeHost

RECORD = Record(
    "boot-1",
    {"policy0": {Knob.GOVERNOR: "powersave", Knob.PREFERENCE: "balance_performance"}},
    ("performance",),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "governor.json"


def test_what_was_stored_is_loaded(fake: FakeHost, path: Path) -> None:
    store_record(path, RECORD)
    assert load_record(fake.root, path) == RECORD


def test_without_a_record_there_is_an_empty_one_of_this_boot(fake: FakeHost, path: Path) -> None:
    fake.put({BOOT_ID: "boot-7\n"})
    assert load_record(fake.root, path) == Record("boot-7")
    assert not path.parent.exists()


def test_a_dropped_record_is_gone_and_dropping_it_again_is_fine(fake: FakeHost, path: Path) -> None:
    store_record(path, RECORD)
    drop_record(path)
    drop_record(path)
    assert load_record(fake.root, path) == Record("")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '{"boot": "b", "previous": {}}',
        '{"previous": {}, "ours": []}',
        '{"boot": "b", "previous": [], "ours": []}',
        '{"boot": "b", "previous": {"policy0": "powersave"}, "ours": []}',
        '{"boot": "b", "previous": {"../p": {"scaling_governor": "x"}}, "ours": []}',
        '{"boot": "b", "previous": {"policy0": {"../../x": "y"}}, "ours": []}',
        '{"boot": "b", "previous": {"policy0": {"scaling_governor": "../x"}}, "ours": []}',
        '{"boot": "b", "previous": {"policy0": {"scaling_governor": 3}}, "ours": []}',
        '{"boot": "b", "previous": {}, "ours": [3]}',
        '{"boot": "b", "previous": {}, "ours": 3}',
        "[" * 60_000,
    ],
)
def test_a_damaged_record_is_refused(fake: FakeHost, path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_text(text)
    with pytest.raises(HostError, match="remove it"):
        load_record(fake.root, path)


def test_a_planted_link_is_neither_read_nor_written_through(
    fake: FakeHost, path: Path, tmp_path: Path
) -> None:
    bait = tmp_path / "bait"
    bait.write_text("{}")
    path.parent.mkdir(mode=0o700)
    path.symlink_to(bait)
    with pytest.raises(HostError):
        load_record(fake.root, path)
    store_record(path, RECORD)
    assert bait.read_text() == "{}"


def test_it_is_private_and_its_directory_left_as_it_was(path: Path, umask: int) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)
    store_record(path, RECORD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert os.listdir(path.parent) == [path.name]


def test_it_is_on_disk_before_storing_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    store_record(path, RECORD)
    assert len(synced) == 2  # the file, then the name of it
    assert synced[1] == str(path.parent)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HostError):
        store_record(tmp_path / "file" / "governor.json", RECORD)
