"""A machine of files and a status map for the checks of the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwend.cli.doctor.scene import Scene
from qwend.host.root import HostRoot

SYSTEM = Path("/run/qwend/qwend.sock")
PID = 4711
# As the daemon on the machine of docs/architecture.md sends it.
BUILD = "CPU : SSE3 = 1 | AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | AVX512 = 1 | LLAMAFILE = 1"
READY: Mapping[str, Any] = {
    "server": "qwend 0.1.0",
    "pid": PID,
    "state": "ready",
    "degraded": [],
    "model": {"name": "qwen", "bytes": 352 << 20, "warm": True, "memory": {"policy": "keep"}},
    "engine": {"backend": "llama", "threads": 2, "build": BUILD, "openmp": False},
    "speed": {"decode_tok_s": 51.3},
    "memory": {"front_rss_bytes": 28 << 20, "engine_rss_bytes": 500 << 20},
}


def status(**parts: Any) -> dict[str, Any]:
    """`READY` with other values; a map is merged into the one that is there."""
    changed = dict(READY)
    for key, value in parts.items():
        before = changed.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        changed[key] = {**before, **value} if both and before is not None else value
    return changed


def scene(tmp_path: Path, files: Mapping[str, str] | None = None, **fields: Any) -> Scene:
    """files: text by the path it has on the machine."""
    root = HostRoot(tmp_path)
    for name, text in (files or {}).items():
        place = root.at(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    given = {"socket": SYSTEM, "qwend": "0.1.0", "python": "3.11.2", "user": "ada", "euid": 1000}
    return Scene(root=root, **{**given, **fields})
