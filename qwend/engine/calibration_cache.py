"""Calibrations kept over restarts: one small JSON file for each machine, model and build.

Owns the files' names and form. What is damaged, foreign or of another form is as if it were not
there, and a disk that fails costs a measurement, never a start.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwend import failpoint
from qwend.engine.calibration import Calibration
from qwend.engine.step_cost import StepCost

# Another form, or another meaning of a field: an old file is then not read.
FORMAT = 2
# A file of ours has about 1 KB; nothing larger is read into memory.
MOST_BYTES = 64 * 1024
# Of all models that were ever loaded, settings and sets of CPUs: those used last stay. As many as
# `qwenctl models available` reads (cli/models/bandwidth.py).
MOST_FILES = 64
CPUINFO = Path("/proc/cpuinfo")
# Keys of /proc/cpuinfo that tell one CPU from another: x86, ARM, RISC-V.
_MODEL_KEYS = ("model name", "stepping", "CPU implementer", "CPU part", "uarch", "Model")


def cpu_model(cpuinfo: Path = CPUINFO) -> str:
    """The kinds of CPU of this machine, as the kernel says; empty where it does not."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    kinds = {line.strip() for line in lines if line.split(":")[0].strip() in _MODEL_KEYS}
    return "; ".join(sorted(" ".join(kind.split()) for kind in kinds))


def cache_key(
    *,
    model: str,
    build: str,
    version: str,
    settings: Mapping[str, Any],
    cpu: str,
    affinity: frozenset[int],
) -> str:
    """What a calibration is true for, as a file name.

    model: the model's fingerprint. build: llama_print_system_info. version: of llama_cpp.
    settings: those that change a step's cost: threads, cpus, flash_attention, kv_type, ubatch,
    cells, max_sequences, repack. affinity: os.sched_getaffinity.
    """
    told = {
        "format": FORMAT,
        "model": model,
        "build": build,
        "version": version,
        "settings": dict(settings),
        "cpu": cpu,
        "cpus": os.cpu_count(),
        "affinity": sorted(affinity),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a start found out, so that the next one need not.

    flash_attention: what was measured to be best; empty: not measured. end_tokens: those that end
    an answer; looking at each of 151,936 takes 0.1 s. model_bytes: of its file, so that the speed
    of another model can be guessed (`qwenctl models available`); 0: not known.
    """

    calibration: Calibration
    flash_attention: str = ""
    end_tokens: tuple[int, ...] = ()
    model_bytes: int = 0


class CalibrationCache:
    """directory: made when something is stored; no other program writes there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, key: str) -> Kept | None:
        """What was stored under the key, or None. Never raises for what a disk can do."""
        try:
            with open(self._path(key), "rb", opener=_without_waiting) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return None
                data = file.read(MOST_BYTES + 1)
        except OSError:
            return None
        if len(data) > MOST_BYTES:
            return None
        try:
            kept = _kept(json.loads(data), key)
            with suppress(OSError):
                os.utime(self._path(key))
            return kept
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None

    def store(self, key: str, kept: Kept) -> bool:
        """Replace the file of this key as a whole; False: the disk would not."""
        data = json.dumps(_fields(kept, key)).encode()
        temporary = None
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{key}.", dir=self._directory)
            with os.fdopen(descriptor, "wb") as file:
                failpoint.reach("calibration.write")
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            failpoint.reach("calibration.rename")
            os.replace(temporary, self._path(key))
        except OSError:
            if temporary is not None:
                with suppress(OSError):
                    os.unlink(temporary)
            return False
        self._forget_oldest()
        return True

    def _forget_oldest(self) -> None:
        """Of what another engine removes meanwhile the next one takes care."""
        with suppress(OSError):
            files = self._directory.glob("calibration-*.json")
            by_use = sorted(files, key=lambda path: path.stat().st_mtime_ns)
            for path in by_use[:-MOST_FILES]:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._directory / f"calibration-{key}.json"


def _without_waiting(path: str, flags: int) -> int:
    """A named pipe would be waited for until somebody writes, and a link is none of ours."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _fields(kept: Kept, key: str) -> dict[str, Any]:
    calibration = kept.calibration
    return {
        "format": FORMAT,
        "key": key,
        "flash_attention": kept.flash_attention,
        "end_tokens": kept.end_tokens,
        "model_bytes": kept.model_bytes,
        "cost": calibration.cost.to_map(),
        "threads": calibration.threads,
        "by_threads": calibration.by_threads,
        "used_cells": calibration.used_cells,
        "took_s": calibration.took_s,
        "measured_at": calibration.measured_at,
    }


def _kept(fields: Any, key: str) -> Kept:
    """Raises: ValueError, TypeError, KeyError, AttributeError for what `_fields` never said."""
    if fields["format"] != FORMAT or fields["key"] != key:
        raise ValueError("another file")
    flash_attention = fields["flash_attention"]
    if flash_attention not in ("", "on", "off"):
        raise ValueError("no choice of flash attention")
    by_threads = {int(count): float(seconds) for count, seconds in fields["by_threads"].items()}
    threads = int(fields["threads"])
    if threads < 1 or not all(n > 0 and 0.0 < s < 3600.0 for n, s in by_threads.items()):
        raise ValueError("no table of seconds by threads")
    return Kept(
        Calibration(
            StepCost.from_map(fields["cost"]),
            threads,
            by_threads,
            int(fields["used_cells"]),
            float(fields["took_s"]),
            float(fields["measured_at"]),
        ),
        flash_attention,
        tuple(int(token) for token in fields["end_tokens"]),
        int(fields.get("model_bytes", 0)),
    )
