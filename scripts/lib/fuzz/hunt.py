"""One hunt: inputs are tried, and the first one of each fault is stored as the next number."""

from __future__ import annotations

from pathlib import Path

from scripts.lib.fuzz.trial import Fault, fault_of, shrunk
from tests.fuzz.catalogue import FOUND, Target


class Hunt:
    """faults: what was found in this hunt, with the file of each."""

    def __init__(self, target: Target, found: Path = FOUND) -> None:
        self.target = target
        self.tried = 0
        self.faults: dict[Fault, Path] = {}
        self._directory = found / target.name
        self._known: set[tuple[str, str]] = set()

    def __call__(self, data: bytes) -> None:
        self.tried += 1
        fault = fault_of(self.target, data)
        if fault is None or fault.key in self._known:
            return
        self._known.add(fault.key)
        shorter = shrunk(data, lambda one: _key(fault_of(self.target, one)) == fault.key)
        path = store(self._directory, shorter)
        self.faults[fault] = path
        print(f"found {path.name}: {fault}", flush=True)


def store(directory: Path, data: bytes) -> Path:
    """Write `data` under the next number, or return the file that has it already."""
    directory.mkdir(parents=True, exist_ok=True)
    last = 0
    for path in sorted(directory.glob("[0-9]*")):
        if path.read_bytes() == data:
            return path
        last = int(path.name)
    path = directory / f"{last + 1:04}"
    path.write_bytes(data)
    return path


def _key(fault: Fault | None) -> tuple[str, str] | None:
    return None if fault is None else fault.key
