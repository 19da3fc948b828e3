"""Everything of qwend that writes files of its own, in one form: write a version, tell which is it.

What is kept in SQLite is not here: that its files are whole is SQLite's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from qwend.engine import calibration_cache, snapshot_files
from qwend.engine.calibration import Calibration
from qwend.engine.calibration_cache import CalibrationCache, Kept
from qwend.engine.snapshot_files import SnapshotFiles
from qwend.engine.step_cost import StepCost
from qwend.errors import HostError
from qwend.host import governor_record, private_dir, warm_copy, warm_index
from qwend.host.cpufreq import Knob
from qwend.host.governor_record import Record, load_record, store_record
from qwend.host.root import HostRoot
from qwend.host.warm_copy import find_warm_copy, make_warm_copy

# A few sectors and pages, and nowhere a multiple of them.
BLOB_BYTES = 70_001
OLD, NEW = 1, 2


@dataclass(frozen=True)
class Writer:
    """write(directory, version): False if the disk would not, after cleaning up; never raises.

    load: the version that is there, None for none. Raises: AssertionError if it is half of one.
    durable: once `write` has returned True a power cut takes nothing back. keeps: what was there
    stays until the new one is complete.
    """

    name: str
    modules: tuple[ModuleType, ...]
    write: Callable[[Path, int], bool]
    load: Callable[[Path], int | None]
    durable: bool
    keeps: bool = True


def _blob(version: int) -> bytes:
    return hashlib.shake_256(bytes([version])).digest(BLOB_BYTES)


# Snapshots

TOKENS = tuple(range(300))


def _write_snapshot(directory: Path, version: int) -> bool:
    try:
        files = SnapshotFiles(directory, b"model")
    except OSError:  # the store says then why it keeps nothing
        return False
    try:
        info = files.info(1000, TOKENS, BLOB_BYTES, created_s=version)
        return files.put(info, _blob(version), used_ns=version)
    finally:
        with suppress(OSError):
            files.close()


def _load_snapshot(directory: Path) -> int | None:
    if not directory.is_dir():
        return None
    files = SnapshotFiles(directory, b"model")
    try:
        found = [info for info, _ in files.scan()]
        assert len(found) <= 1
        for info in found:
            blob = files.read(info)
            if blob is None:
                return None
            assert blob == _blob(info.header.created_s)
            return info.header.created_s
    finally:
        files.close()
    return None


# Calibrations


def _write_calibration(directory: Path, version: int) -> bool:
    cost = StepCost({1: 0.018}, all_sampled={4: 0.043}, cell_s=1e-6)
    kept = Kept(Calibration(cost, 2, {2: 0.018}, 512, 2.0, float(version)), "off", _end_tokens())
    return CalibrationCache(directory).store("key", kept)


def _load_calibration(directory: Path) -> int | None:
    kept = CalibrationCache(directory).load("key")
    if kept is None:
        return None
    assert kept.end_tokens == _end_tokens()
    return int(kept.calibration.measured_at)


def _end_tokens() -> tuple[int, ...]:
    return tuple(range(151_000, 156_000))  # so that the file is many sectors


# The record of governors


def _write_record(directory: Path, version: int) -> bool:
    policies: dict[str, dict[Knob, str]] = {f"policy{number}": {} for number in range(2000)}
    try:
        store_record(directory / "governor.json", Record(f"boot-{version}", policies))
    except HostError:
        return False
    return True


def _load_record(directory: Path) -> int | None:
    record = load_record(HostRoot(Path("/nowhere")), directory / "governor.json")
    assert not record.boot or len(record.previous) == 2000
    return int(record.boot.removeprefix("boot-")) if record.boot else None


# The warm copy and its index


def _source(directory: Path, version: int) -> Path:
    # Not beside it: what lies there is on a disk that may be full.
    path = directory.parent.with_name(f"model-{version}.gguf")
    if not path.exists():
        path.write_bytes(_blob(version))
    return path


def _write_copy(directory: Path, version: int) -> bool:
    try:
        copy = make_warm_copy(
            _source(directory, version), directory, free_bytes=lambda _: BLOB_BYTES
        )
    except HostError:
        return False
    assert os.pread(copy.fd, 2 * BLOB_BYTES, 0) == _blob(version)
    os.close(copy.fd)
    return True


def _load_copy(directory: Path) -> int | None:
    for path in directory.glob("*.gguf"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    for version in (OLD, NEW):
        with _source(directory, version).open("rb") as source:
            copy = find_warm_copy(source.fileno(), directory)
        if copy is not None:
            os.close(copy.fd)
            return version
    return None


def _write_index(directory: Path, version: int) -> bool:
    try:
        with private_dir.private_directory(directory) as fd:
            warm_index.record(fd, replace(_SOURCE, size_bytes=version), "0" * 64)
    except HostError:
        return False
    return True


def _load_index(directory: Path) -> int | None:
    with private_dir.private_directory(directory) as fd:
        for version in (OLD, NEW):
            if warm_index.find(fd, replace(_SOURCE, size_bytes=version)):
                return version
    return None


_SOURCE = warm_index.SourceId("/model" * 1000, 0, 0, 0, 0, 0)

SNAPSHOT = Writer("snapshot", (snapshot_files,), _write_snapshot, _load_snapshot, durable=True)
RECORD = Writer(
    "governor record", (private_dir, governor_record), _write_record, _load_record, durable=True
)
CALIBRATION = Writer(
    "calibration", (calibration_cache,), _write_calibration, _load_calibration, durable=False
)
COPY = Writer(
    "warm copy", (private_dir, warm_copy), _write_copy, _load_copy, durable=False, keeps=False
)
INDEX = Writer("warm index", (private_dir,), _write_index, _load_index, durable=False)
WRITERS = (SNAPSHOT, RECORD, CALIBRATION, COPY, INDEX)
