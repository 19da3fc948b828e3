"""How many bytes of weights this machine goes through in a second, as qwend has measured it.

A step of one row reads every weight once, and that is what its time goes to. Taken from the daemon
that runs, or from what an earlier one kept (`calibration-*.json`, read here for two figures only);
0 where nothing is known. A model that fits into a CPU's cache says nothing about memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from qwend.cli.amounts import number, part

# Larger than the caches of the machines that this is for, smaller than any real model.
_LEAST_MODEL_BYTES = 100 * 10**6
_MOST_FILE_BYTES = 64 * 1024
_MOST_FILES = 64


def known_bandwidth(status: Mapping[str, object], state: Path) -> float:
    """Bytes a second; 0 if it is not known. state: the daemon's state directory."""
    size = number(part(status, "model"), "bytes")
    step_ms = number(part(part(status, "engine"), "step_ms"), "1")
    if size >= _LEAST_MODEL_BYTES and step_ms > 0:
        return size / step_ms * 1e3
    return max(_kept(state / "engine"), default=(0.0, 0.0))[1]


def _kept(directory: Path) -> Iterator[tuple[float, float]]:
    """When it was measured, and what."""
    with suppress(OSError):
        for path in sorted(directory.glob("calibration-*.json"))[:_MOST_FILES]:
            with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
                with path.open("rb") as file:
                    fields = json.loads(file.read(_MOST_FILE_BYTES))
                size, step_s = float(fields["model_bytes"]), float(fields["cost"]["rows"]["1"])
                if size >= _LEAST_MODEL_BYTES and 0 < step_s < 3600:
                    yield float(fields["measured_at"]), size / step_s
