"""A private directory is ours alone, and nothing planted in it reaches outside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qwend.errors import HostError
from qwend.host.private_dir import create_file, private_directory, read_file, replace_file

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.row("G2")
def test_the_directory_and_its_parents_are_0700_under_any_umask(tmp_path: Path, umask: int) -> None:
    with private_directory(tmp_path / "qwend" / "model"):
        assert mode_of(tmp_path / "qwend") == 0o700
        assert mode_of(tmp_path / "qwend" / "model") == 0o700


def test_a_directory_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with private_directory(tmp_path, tighten=False):
        assert mode_of(tmp_path) == 0o755
    with private_directory(tmp_path):
        assert mode_of(tmp_path) == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_others_could_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(HostError, match=r"others may write to it .*remove it"):
        private_directory(tmp_path).__enter__()
    assert mode_of(tmp_path) == mode


@ROOT_ONLY
def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(HostError, match="belongs to uid 12345, not to us"):
        private_directory(tmp_path).__enter__()


def test_a_link_a_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "file", "pipe", "file/below"):
        with pytest.raises(HostError, match="opening the directory"):
            private_directory(tmp_path / name).__enter__()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
@pytest.mark.row("G2")
def test_a_file_has_exactly_its_mode_under_any_umask(tmp_path: Path, umask: int, mode: int) -> None:
    with private_directory(tmp_path) as directory:
        os.close(create_file(directory, "x", mode))
        replace_file(directory, "y", b"y", mode=mode, durable=True)
    assert mode_of(tmp_path / "x") == mode
    assert mode_of(tmp_path / "y") == mode


@pytest.mark.row("G3")
def test_a_file_is_never_created_over_anything(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.write_text("bait")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "soft").symlink_to(bait)
    (tmp_path / "dir" / "dangling").symlink_to(tmp_path / "new")
    (tmp_path / "dir" / "hard").hardlink_to(bait)
    os.mkfifo(tmp_path / "dir" / "pipe")
    with private_directory(tmp_path / "dir") as directory:
        for name in ("soft", "dangling", "hard", "pipe"):
            with pytest.raises(FileExistsError):
                create_file(directory, name, 0o600)
    assert bait.read_text() == "bait"
    assert not (tmp_path / "new").exists()


@pytest.mark.row("G3")
def test_a_file_replaced_in_place_of_a_link_leaves_the_target_alone(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    bait.write_text("bait")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "soft").symlink_to(bait)
    (tmp_path / "dir" / "hard").hardlink_to(bait)
    with private_directory(tmp_path / "dir") as directory:
        for name in ("soft", "hard"):
            replace_file(directory, name, b"new", mode=0o600, durable=False)
            assert read_file(directory, name, 10) == b"new"
    assert bait.read_text() == "bait"


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with private_directory(tmp_path) as directory:
        assert read_file(directory, "file", 2) == b"te"
        for name in ("link", "sub", "pipe"):
            with pytest.raises(OSError, match=r"."):
                read_file(directory, name, 10)


def test_a_replacement_that_fails_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with private_directory(tmp_path) as directory, pytest.raises(IsADirectoryError):
        replace_file(directory, "taken", b"new", mode=0o600, durable=False)
    assert os.listdir(tmp_path) == ["taken"]
