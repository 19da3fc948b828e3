from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from qwend.models import disk
from qwend.models.pull.part import Part
from tests.models.pull.stub_hub import digest

SEAL = 1000
DATA = bytes(at % 251 for at in range(10 * SEAL))
NAME = digest(DATA)


def opened(directory: Path) -> Part:
    part = Part.open(directory, NAME, SEAL)
    assert part is not None
    return part


def killed(part: Part) -> None:
    """As by SIGKILL: nothing is said any more, and the kernel closes what was open."""
    for descriptor in (part._fd, part._log, part._lock_fd):
        os.close(descriptor)
    part._fd = -1


def test_a_kill_costs_what_came_after_the_last_seal(tmp_path: Path) -> None:
    part = opened(tmp_path)
    part.write(DATA[:2500])
    part.write(DATA[2500:2900])
    killed(part)

    with opened(tmp_path) as part:
        assert part.resume() == 2500
        part.write(DATA[2500:])
        assert part.sha256 == NAME
        assert part.path.read_bytes() == DATA


def test_an_orderly_end_costs_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(DATA[:17])

    with opened(tmp_path) as part:
        assert part.resume() == 17


def test_damage_costs_what_is_behind_it_and_that_once(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        for at in range(0, 5 * SEAL, SEAL):
            part.write(DATA[at : at + SEAL])
    damaged = bytearray(part.path.read_bytes())
    damaged[2 * SEAL + 1] ^= 1
    part.path.write_bytes(damaged)

    part = opened(tmp_path)
    assert part.resume() == 2 * SEAL
    part.write(DATA[2 * SEAL : 4 * SEAL])
    killed(part)

    with opened(tmp_path) as part:
        assert part.resume() == 4 * SEAL


@pytest.mark.parametrize("cut", range(1, 70, 7))
def test_a_journal_that_was_cut_costs_its_last_line(tmp_path: Path, cut: int) -> None:
    with opened(tmp_path) as part:
        part.write(DATA[:SEAL])
        part.write(DATA[SEAL : 2 * SEAL])
    journal = tmp_path / f"{NAME}.journal"
    journal.write_bytes(journal.read_bytes()[:-cut])

    part = opened(tmp_path)
    assert part.resume() == SEAL
    part.write(DATA[SEAL : 3 * SEAL])
    killed(part)
    with opened(tmp_path) as part:
        assert part.resume() == 3 * SEAL


def test_a_part_that_is_shorter_than_its_journal_says_is_cut_back(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(DATA[:SEAL])
        part.write(DATA[SEAL : 2 * SEAL])
    os.truncate(part.path, 2 * SEAL - 1)

    with opened(tmp_path) as part:
        assert part.resume() == SEAL


def test_only_one_has_it_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path):
        assert Part.open(tmp_path, NAME) is None
    opened(tmp_path).close()


def test_what_was_moved_away_leaves_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as part:
        part.write(DATA)
        part.finish().rename(tmp_path / "blob")

    assert [path.name for path in tmp_path.iterdir()] == ["blob"]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (target := tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / f"{NAME}.part").symlink_to(target)

    with pytest.raises(OSError, match="symbolic links"):
        Part.open(tmp_path, NAME)
    assert target.read_bytes() == b"precious"
    (tmp_path / f"{NAME}.part").unlink()
    opened(tmp_path).close()  # the refused one has let go of its lock


def test_a_lock_whose_file_has_gone_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "lock", fcntl.flock
    calls = []

    def flock(descriptor: int, how: int) -> None:
        real(descriptor, how)
        calls.append(descriptor)
        if len(calls) == 1:
            path.unlink()  # by the one who had it until now

    monkeypatch.setattr(disk.fcntl, "flock", flock)  # type: ignore[attr-defined]
    held = disk.lock(path, wait=True)

    assert held is not None
    assert len(calls) == 2
    assert os.fstat(held).st_ino == path.stat().st_ino
    os.close(held)


def test_writes_that_the_disk_takes_in_pieces_are_all_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def piecemeal(descriptor: int, data: Any) -> int:
        return real(descriptor, memoryview(data)[:700])

    with opened(tmp_path) as part:
        monkeypatch.setattr(os, "write", piecemeal)
        part.write(DATA)
        monkeypatch.undo()
        assert part.size_bytes == len(DATA)
        assert part.sha256 == NAME
