"""Which source file each warm copy was made of, so that a start need not read the source again.

Rule 1: a copy is known by what fstat(2) says of its source; anything else is a new source.
Rule 2: the index is only a memory. Lost or damaged, it costs one copy, never an error.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict, dataclass

from qwend import failpoint
from qwend.host.private_dir import read_file, replace_file

INDEX = "index.json"
_LIMIT_BYTES = 65_536
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SourceId:
    """A source file as it was. ctime_ns is there because a tool may set mtime back; ctime not."""

    path: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


def identify(source_fd: int, path: str) -> SourceId:
    info = os.fstat(source_fd)
    return SourceId(
        path, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, info.st_dev
    )


def find(directory_fd: int, source: SourceId) -> str | None:
    """Return the SHA-256 recorded for this very source, None if there is none."""
    wanted = asdict(source)
    return next((sha256 for sha256, known in _read(directory_fd).items() if known == wanted), None)


def record(directory_fd: int, source: SourceId, sha256: str) -> None:
    """Remember the copy beside the others that are in this directory, if there is room for it."""
    copies = set(os.listdir(directory_fd))
    known = {one: its for one, its in _read(directory_fd).items() if f"{one}.gguf" in copies}
    text = json.dumps({"copies": {**known, sha256: asdict(source)}}, indent=1) + "\n"
    # A tmpfs made to measure may be full now; the copy is good all the same.
    with suppress(OSError):
        failpoint.reach("warm_index.write")
        replace_file(directory_fd, INDEX, text.encode(), mode=0o600, durable=False)


def _read(directory_fd: int) -> dict[str, object]:
    """The sources that are recorded, by the SHA-256 of their copies."""
    try:
        index = json.loads(read_file(directory_fd, INDEX, _LIMIT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    copies = index.get("copies") if isinstance(index, dict) else None
    if not isinstance(copies, dict):
        return {}
    return {sha256: source for sha256, source in copies.items() if _SHA256.fullmatch(sha256)}
