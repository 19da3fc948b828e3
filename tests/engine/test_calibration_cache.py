"""Kept calibrations: found again only for what they were measured for, and only if whole."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from qwend.engine.calibration import Calibration
from qwend.engine.calibration_cache import (
    MOST_BYTES,
    MOST_FILES,
    CalibrationCache,
    Kept,
    cache_key,
    cpu_model,
)
from qwend.engine.step_cost import StepCost

FOR: dict[str, Any] = {
    "model": "0123",
    "build": "CPU : AVX2 = 1",
    "version": "0.3.36",
    "settings": {"threads": 2, "flash_attention": "off"},
    "cpu": "model name : one",
    "affinity": frozenset({0, 1}),
}
KEY = cache_key(**FOR)
COST = StepCost({1: 0.018, 3: 0.033, 4: 0.034}, all_sampled={4: 0.043}, cell_s=1.2e-6)
KEPT = Kept(Calibration(COST, 2, {1: 0.031, 2: 0.018}, 512, 2.1, 1.7e9), "off", (7, 9))


@pytest.fixture
def cache(tmp_path: Path) -> CalibrationCache:
    return CalibrationCache(tmp_path / "state" / "calibrations")


def the_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "state" / "calibrations").iterdir()
    return path


def test_what_is_stored_comes_back(cache: CalibrationCache) -> None:
    assert cache.store(KEY, KEPT)
    again = cache.load(KEY)
    assert again is not None
    assert again.flash_attention == "off"
    assert again.calibration.cost.to_map() == COST.to_map()
    assert again.calibration.by_threads == {1: 0.031, 2: 0.018}
    assert (again.calibration.threads, again.calibration.measured_at) == (2, 1.7e9)
    assert not again.calibration.kept


def test_a_later_store_replaces_the_file_and_leaves_no_other(
    cache: CalibrationCache, tmp_path: Path
) -> None:
    cache.store(KEY, KEPT)
    cache.store(KEY, Kept(KEPT.calibration, "on"))
    again = cache.load(KEY)
    assert again is not None
    assert again.flash_attention == "on"
    assert the_file(tmp_path).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("model", "4567"),
        ("build", "CPU : AVX512 = 1"),
        ("version", "0.3.37"),
        ("settings", {"threads": 1, "flash_attention": "off"}),
        ("cpu", "model name : another"),
        ("affinity", frozenset({0})),
    ],
)
def test_another_machine_model_build_or_setting_has_another_key(name: str, other: object) -> None:
    assert cache_key(**(FOR | {name: other})) != KEY
    assert cache_key(**FOR) == KEY


def test_those_that_were_used_last_are_kept(cache: CalibrationCache, tmp_path: Path) -> None:
    keys = [f"{number:032x}" for number in range(MOST_FILES)]
    for number, key in enumerate(keys):
        assert cache.store(key, KEPT)
        os.utime(tmp_path / "state" / "calibrations" / f"calibration-{key}.json", (number, number))
    assert cache.load(keys[0]) is not None
    (tmp_path / "state" / "calibrations" / "notes.json").write_text("mine")
    assert cache.store(KEY, KEPT)
    assert [key for key in (*keys, KEY) if cache.load(key) is None] == [keys[1]]
    assert (tmp_path / "state" / "calibrations" / "notes.json").exists()


def test_a_file_of_another_key_is_not_read(cache: CalibrationCache, tmp_path: Path) -> None:
    cache.store(KEY, KEPT)
    other = cache_key(**(FOR | {"model": "4567"}))
    path = the_file(tmp_path)
    path.rename(path.with_name(path.name.replace(KEY, other)))
    assert cache.load(other) is None


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_cut_file_is_as_if_it_were_not_there(
    cache: CalibrationCache, tmp_path: Path, kept: int
) -> None:
    cache.store(KEY, KEPT)
    path = the_file(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    assert cache.load(KEY) is None
    assert cache.store(KEY, KEPT)
    assert cache.load(KEY) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"threads": 0},
        {"threads": "many"},
        {"threads": float("inf")},
        {"by_threads": []},
        {"by_threads": {"2": -1.0}},
        {"by_threads": {"2": float("nan")}},
        {"cost": None},
        {"cost": {"rows": {}, "all_sampled": {}, "cell_s": 0.0}},
        {"flash_attention": "sometimes"},
        {"measured_at": None},
    ],
)
def test_a_file_with_nonsense_is_as_if_it_were_not_there(
    cache: CalibrationCache, tmp_path: Path, change: dict[str, Any]
) -> None:
    cache.store(KEY, KEPT)
    path = the_file(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert cache.load(KEY) is None


@pytest.mark.parametrize("data", [b"[]", b"null", b"7", b"\xff\xfe", b"[" * 60_000, b"{}"])
def test_a_file_of_something_else_is_as_if_it_were_not_there(
    cache: CalibrationCache, tmp_path: Path, data: bytes
) -> None:
    cache.store(KEY, KEPT)
    the_file(tmp_path).write_bytes(data)
    assert cache.load(KEY) is None


def test_a_file_that_is_too_large_is_not_read(cache: CalibrationCache, tmp_path: Path) -> None:
    cache.store(KEY, KEPT)
    path = the_file(tmp_path)
    path.write_bytes(path.read_bytes() + b" " * MOST_BYTES)
    assert cache.load(KEY) is None


def test_without_a_directory_there_is_nothing(cache: CalibrationCache) -> None:
    assert cache.load(KEY) is None


def test_a_disk_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = CalibrationCache(tmp_path / "file" / "below")
    assert not cache.store(KEY, KEPT)
    assert cache.load(KEY) is None


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    cache: CalibrationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(KEY, KEPT)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not cache.store(KEY, Kept(KEPT.calibration, "on"))
    again = cache.load(KEY)
    assert again is not None
    assert again.flash_attention == "off"
    assert the_file(tmp_path).name.startswith("calibration-")


def test_the_cpu_is_named_by_its_kinds_and_not_by_its_speed(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Some  CPU\nstepping\t: 1\ncpu MHz\t\t: 2599.9\n\n"
        "processor\t: 1\nmodel name\t: Some  CPU\nstepping\t: 1\ncpu MHz\t\t: 3100.0\n"
    )
    assert cpu_model(cpuinfo) == "model name : Some CPU; stepping : 1"
    assert cpu_model(tmp_path / "none") == ""
