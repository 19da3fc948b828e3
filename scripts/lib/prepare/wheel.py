"""The compiled llama.cpp: built once for this machine, kept in the cache, shared by all clones.

Rule 1: a wheel is in the cache whole or not at all: it is built aside and renamed into place.
Rule 2: the caller holds the cache's lock.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import machine
from places import Places
from problem import Problem
from running import run

# The unpacked source (217 MB), the objects (some 300 MB), the wheel, and room to spare.
NEEDED_BYTES = 1_000_000_000

_ASIDE = "build-"


def cached(places: Places, key: str) -> Path | None:
    """Return the wheel for this key if it is in the cache."""
    return next(iter(sorted((places.wheels / key).glob("*.whl"))), None)


def build(
    places: Places, python: Path, key: str, requirement: str, environ: Mapping[str, str]
) -> Path:
    """Compile the wheel with the pip of this Python, put it in the cache, return its path.

    Raises: Problem if there is no room, or with the end of the log if the build fails.
    """
    for left in places.cache.glob(f"{_ASIDE}*"):
        # From a run that was killed: we hold the lock, so nobody builds there.
        shutil.rmtree(left, ignore_errors=True)
    free = shutil.disk_usage(places.cache).free
    if free < NEEDED_BYTES:
        raise Problem(
            f"Compiling llama.cpp needs {NEEDED_BYTES // 10**6} MB for a while; the disk of "
            f"{places.cache} has {free // 10**6} MB left.\nMake room, or name another place: "
            "XDG_CACHE_HOME=/some/directory"
        )
    print(
        "llama.cpp is compiled for this machine once: about 5 minutes on 2 cores, 25 on a "
        "Raspberry Pi 4.",
        file=sys.stderr,
    )
    aside = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=places.cache))
    try:
        # In the cache rather than /tmp, which is memory on many small machines.
        (aside / "tmp").mkdir()
        command = [str(python), "-m", "pip", "wheel", "-v", "--no-deps"]
        command += ["--no-binary", "llama-cpp-python", "-w", str(aside / "out"), requirement]
        run(
            "compiling llama.cpp",
            command,
            places.log / "llama-cpp-build.log",
            _build_environment(environ, aside),
            _step,
        )
        (aside / "out").rename(_emptied(places.wheels / key))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    built = cached(places, key)
    if built is None:
        raise Problem(f"pip reported success but left no wheel; see {places.log}")
    return built


def _build_environment(environ: Mapping[str, str], aside: Path) -> dict[str, str]:
    return {
        **environ,
        "CMAKE_ARGS": machine.cmake_args(environ),
        **{name: machine.compiler_flags(environ, name) for name in ("CFLAGS", "CXXFLAGS")},
        # ninja takes all cores by itself, make (the fallback of scikit-build-core) one.
        "CMAKE_BUILD_PARALLEL_LEVEL": machine.build_jobs(environ),
        "TMPDIR": str(aside / "tmp"),
        # pip keeps wheels that it built, and would hand this one out again whatever CMAKE_ARGS say.
        "PIP_CACHE_DIR": str(aside / "pip"),
    }


def _step(line: str) -> str | None:
    """What a line of pip, CMake, ninja or make says about the progress."""
    ninja = re.search(r"\[(\d+)/(\d+)\]", line)
    if ninja:
        done, total = int(ninja[1]), int(ninja[2])
        return f"{done} of {total} files" if total else None
    make = re.search(r"\[ *(\d+)%\]", line)
    if make:
        return f"{make[1]} %"
    if "Downloading" in line:
        return "fetching the source"
    if "Installing build dependencies: started" in line:
        return "fetching the build tools"
    if "Configuring CMake" in line or "-- Detecting CXX" in line:
        return "looking at the compiler"
    return None


def _emptied(target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target.parent, exist_ok=True)
    return target
