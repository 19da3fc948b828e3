"""How the doctor looks at the disk: shortly, and whatever the file is."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path

import pytest

from qwend.cli.doctor import look
from qwend.cli.doctor.look import ENOUGH_BYTES, READ_BYTES, timed_read

MIB = 2**20


def test_a_daemon_that_only_listens_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "PATIENCE_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "q.sock"))
        listener.listen()

        seen = look.look({}, str(tmp_path / "q.sock"), read_disk=False)

    assert (seen.trouble, seen.status) == ("silent", {})
    assert look.look({}, str(tmp_path / "none"), read_disk=False).trouble == "unreachable"


def file_of(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    """A directory whose file system takes O_DIRECT."""
    if timed_read(file_of(tmp_path / "probe", ENOUGH_BYTES)).trouble:
        pytest.skip("this file system cannot be read past the page cache")
    return tmp_path


def test_no_more_is_read_than_is_needed(on_disk: Path) -> None:
    read = timed_read(
        file_of(on_disk / "m.gguf", READ_BYTES + 8 * MIB), itertools.count(0, 0).__next__
    )

    assert read.read_bytes == READ_BYTES


def test_a_slow_disk_is_given_up_after_a_second(on_disk: Path) -> None:
    clock = itertools.count(100.0, 0.4)

    read = timed_read(file_of(on_disk / "m.gguf", 32 * MIB), lambda: next(clock))

    assert read.read_bytes == 3 * MIB
    assert read.bytes_per_s == pytest.approx(3 * MIB / 1.2)
    assert not read.trouble


def test_what_is_too_small_tells_nothing(on_disk: Path) -> None:
    read = timed_read(file_of(on_disk / "m.gguf", MIB + 5))

    assert read.trouble == "m.gguf is too small to tell"


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert "No such file" in timed_read(tmp_path / "none").trouble
    assert timed_read(tmp_path).trouble


def test_a_model_that_was_pulled_is_one_to_read(on_disk: Path) -> None:
    blobs = on_disk / "qwend" / "models" / "store" / "blobs"
    blobs.mkdir(parents=True)
    blob = file_of(blobs / ("a" * 64), ENOUGH_BYTES)
    env = {"STATE_DIRECTORY": str(on_disk / "qwend"), "XDG_DATA_HOME": str(on_disk)}

    seen = look.look(env, str(on_disk / "none"), read_disk=True)

    assert seen.disk is not None
    assert seen.disk.path == str(blob)
