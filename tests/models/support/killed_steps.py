"""Does something to a store again and again, and is killed at its first, second, third ... step.

A step is a call that changes what is on the disk. Each run is a forked process that ends at once,
as by SIGKILL; in between the store must be in order. A program of its own, for it forks.

    python -m tests.models.support.killed_steps DIRECTORY
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwend.models.blob_store import BlobStore, file_digest
from qwend.models.intake import import_file
from tests.models.support.gguf_builder import tiny_model

STEPS = (
    "replace",
    "fsync",
    "fdatasync",
    "unlink",
    "fchmod",
    "ftruncate",
    "write",
    "mkdir",
    "rmdir",
)
KILLED = 9
MOST = 60


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do it in a process that is killed before that step; False if it came to its end."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(KILLED)
                return real(*arguments, **named)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        try:
            work()
        except BaseException as error:
            print(f"step {step}: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED), f"step {step} ended with {status}"
    return status == KILLED


def check(store: BlobStore) -> None:
    """Every name leads to a file that is what its name says."""
    for name in store.names():
        manifest = store.manifest(name)
        assert manifest is not None
        assert file_digest(store.blob_path(manifest.sha256)) == manifest.sha256, name


def every_step(store: BlobStore, what: str, work: Callable[[], object]) -> None:
    steps = 0
    while killed_at(steps, work):
        check(store)
        steps += 1
        assert steps < MOST, what
    check(store)
    print(f"{what}: killed at {steps} steps")


def main(directory: Path) -> None:
    files = []
    for name in ("one", "two"):
        model = tiny_model()
        next(iter(model.tensors.values())).data = name[0].encode() * (8 * 18)
        (directory / f"{name}.gguf").write_bytes(model.build())
        files.append(str(directory / f"{name}.gguf"))
    store = BlobStore(directory / "models")

    every_step(store, "the first import", lambda: import_file(store, files[0], name="m"))
    assert store.names() == ["m"]
    every_step(store, "one over the other", lambda: import_file(store, files[1], name="m"))
    every_step(store, "sweeping", lambda: store.sweep(all_parts=True))
    assert [path.name for path in (directory / "models/store/blobs").iterdir()] == [
        file_digest(Path(files[1]))
    ]
    every_step(store, "removing", lambda: "m" in store.names() and store.remove("m"))
    store.sweep(all_parts=True)
    assert [path for path in (directory / "models").rglob("*") if path.is_file()] == [
        directory / "models/store/lock"
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
