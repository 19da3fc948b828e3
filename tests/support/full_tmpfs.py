"""Makes warm copies on a tmpfs that is full in part, or that others fill meanwhile.

Usage: python -m tests.support.full_tmpfs MODEL MOUNT, with MOUNT a tmpfs of twice the model's size.
Prints one JSON list for each 5 % of the model's size: how the copy went where so much was free
before, and how where others took all that was free once so much was copied. Each is the copy's
SHA-256 or the error, and how many bytes of copies are left in the mount.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from qwend.errors import HostError
from qwend.host import warm_copy
from qwend.host.warm_copy import make_warm_copy

PARTS = 20  # of 5 % each


def main() -> None:
    model, mount = Path(sys.argv[1]), Path(sys.argv[2])
    size = model.stat().st_size
    warm_copy.CHUNK_BYTES = size // PARTS
    for part in range(PARTS):
        fill(mount, leave=size * part // PARTS)
        before = copied(model, mount)
        clear(mount)

        def others_come(done: int, total: int, at: int = size * part // PARTS) -> None:
            if done > at:
                fill(mount, leave=0)

        meanwhile = copied(model, mount, others_come)
        clear(mount)
        print(json.dumps([before, meanwhile]), flush=True)


def copied(
    model: Path, mount: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[str, int]:
    try:
        copy = make_warm_copy(model, mount / "copies", progress=progress)
    except HostError as error:
        return str(error), left(mount)
    with open(copy.fd, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == copy.sha256
    return copy.sha256, left(mount)


def left(mount: Path) -> int:
    files = (mount / "copies").iterdir()
    return sum(path.stat().st_size for path in files if path.name != "index.json")


def fill(mount: Path, leave: int) -> None:
    """Take all that is free but for so many bytes."""
    with (mount / "others").open("ab", buffering=0) as file:
        status = os.statvfs(mount)
        with suppress(OSError):
            file.write(bytes(max(status.f_bavail * status.f_frsize - leave, 0)))


def clear(mount: Path) -> None:
    shutil.rmtree(mount / "copies", ignore_errors=True)
    (mount / "others").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
