"""Room for a copy: the file system's, and in memory also the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.host.mounts import filesystem_type, is_tmpfs
from qwend.host.space import (
    MEMORY_RESERVE_BYTES,
    free_for_copy,
    free_on_disk,
    place_for_copy,
)

from .conftest import FakeHost


def mounts(*lines: tuple[str, str]) -> str:
    return "".join(
        f"{n} 1 0:{n} / {where} rw,nosuid shared:{n} - {kind} source rw\n"
        for n, (where, kind) in enumerate(lines, start=20)
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/qwend", "ext4"),
        ("/run/qwend/model", "tmpfs"),
        ("/runner", "ext4"),
        ("/run/user/1000/qwend", "xfs"),
        ("/mnt/a b/c", "ramfs"),
    ],
)
def test_the_closest_and_latest_mount_counts(fake: FakeHost, path: str, kind: str) -> None:
    table = mounts(
        ("/", "ext4"),
        ("/run/user/1000", "tmpfs"),
        ("/run", "tmpfs"),
        ("/run/user/1000", "xfs"),
        ("/mnt/a\\040b", "ramfs"),
    )
    fake.put({"/proc/self/mountinfo": table + "\nbroken line\n"})
    assert filesystem_type(fake.root, Path(path)) == kind
    assert is_tmpfs(fake.root, Path(path)) == (kind != "ext4" and kind != "xfs")


def test_on_a_disk_the_disk_counts(fake: FakeHost, tmp_path: Path) -> None:
    fake.put({"/proc/self/mountinfo": mounts(("/", "ext4"))})
    assert abs(free_for_copy(fake.root, tmp_path) - free_on_disk(tmp_path)) < 2**30


@pytest.mark.parametrize(("available_kb", "free"), [(66_536, 1000 * 1024), (1000, 0)])
def test_in_memory_a_reserve_is_left_for_the_system(
    fake: FakeHost, tmp_path: Path, available_kb: int, free: int
) -> None:
    assert MEMORY_RESERVE_BYTES == 65_536 * 1024
    fake.put(
        {
            "/proc/self/mountinfo": mounts(("/", "tmpfs")),
            "/proc/meminfo": f"MemAvailable: {available_kb} kB\n",
        }
    )
    assert free_for_copy(fake.root, tmp_path) == free


def test_what_is_needed_besides_is_not_there_for_the_copy(fake: FakeHost, tmp_path: Path) -> None:
    fake.put(
        {
            "/proc/self/mountinfo": mounts(("/", "tmpfs")),
            "/proc/meminfo": "MemAvailable: 66536 kB\n",
        }
    )
    assert free_for_copy(fake.root, tmp_path, besides=400 * 1024) == 600 * 1024
    assert free_for_copy(fake.root, tmp_path, besides=2**40) == 0


def test_the_first_place_that_is_large_enough_is_taken_whether_it_is_there_or_not(
    tmp_path: Path,
) -> None:
    here, small = tmp_path / "not" / "yet", Path("/sys/not/yet")  # sysfs has no room at all
    assert place_for_copy((here, small), 1) == here
    assert place_for_copy((small, here), 1) == here
    assert place_for_copy((small, here), 0) == small
    assert place_for_copy((here, small), 2**60) == here
