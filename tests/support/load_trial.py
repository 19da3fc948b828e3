"""Loads files one after the other, each in a process of its own: llama.cpp may end it.

Usage: python -m tests.support.load_trial FILE ... Prints for each: "loaded" (and computed a step),
"refused", "failed" after any other exception, or the number of the signal that ended it.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import qwend.engine.llama.backend  # noqa: F401  once, before all the children
from qwend.errors import ModelError
from tests.support.tiny_model import feed, opened

CPU_S = 30
"""Far more than the built-in model takes: what goes on is ended by the kernel."""
LOADED, REFUSED, FAILED = range(3)


def main(files: list[str]) -> None:
    for file in files:
        child = os.fork()
        if child == 0:
            os._exit(_load(Path(file)))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        names = {LOADED: "loaded", REFUSED: "refused"}
        print(names.get(code, "failed") if code >= 0 else f"signal {-code}", flush=True)


def _load(file: Path) -> int:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    try:
        with opened(file, cells=256) as backend:
            feed(backend, 0, tuple(backend.tokenize("What is qwend?", False)))
    except ModelError:
        return REFUSED
    except BaseException:
        return FAILED
    return LOADED


if __name__ == "__main__":
    main(sys.argv[1:])
