"""Control groups, on a made-up /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.bench_support.peers.cpu_group import HIGH, USUAL, CpuGroup, Hierarchy, hierarchy


def version_2(root: Path, subtree: str) -> None:
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (root / "cgroup.subtree_control").write_text(subtree)


def test_version_2_is_used_where_its_cpu_controller_is_on(tmp_path: Path) -> None:
    version_2(tmp_path, "cpuset cpu memory\n")
    assert hierarchy(tmp_path) == Hierarchy(tmp_path, "cpu.weight")


def test_a_controller_that_is_off_is_left_off(tmp_path: Path) -> None:
    version_2(tmp_path, "memory cpuset\n")
    assert "is off" in str(hierarchy(tmp_path))


def test_version_1_is_used_where_there_is_no_version_2(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "tasks").touch()
    assert hierarchy(tmp_path) == Hierarchy(tmp_path / "cpu", "cpu.shares")


def test_no_controller_at_all_is_told(tmp_path: Path) -> None:
    assert "no cpu controller" in str(hierarchy(tmp_path))


def test_without_the_right_to_write_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_2(tmp_path, "cpu")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "run as root" in str(hierarchy(tmp_path))


@pytest.mark.parametrize(
    ("setting", "high", "usual"), [("cpu.weight", 10_000, 100), ("cpu.shares", 102_400, 1024)]
)
def test_the_proportion_is_the_same_in_both_versions(setting: str, high: int, usual: int) -> None:
    where = Hierarchy(Path("/x"), setting)
    assert (where.setting_of(HIGH), where.setting_of(USUAL)) == (high, usual)


def test_a_group_has_its_weight_and_takes_processes(tmp_path: Path) -> None:
    group = CpuGroup(Hierarchy(tmp_path, "cpu.weight"), "ours", HIGH)
    group.take([17])
    assert (tmp_path / "ours" / "cpu.weight").read_text() == "10000"
    assert (tmp_path / "ours" / "cgroup.procs").read_text() == "17"


def test_an_empty_group_is_removed(tmp_path: Path) -> None:
    group = CpuGroup(Hierarchy(tmp_path, "cpu.weight"), "ours", HIGH)
    (group.path / "cpu.weight").unlink()  # a real group needs no such help
    group.remove()
    assert not group.path.exists()
