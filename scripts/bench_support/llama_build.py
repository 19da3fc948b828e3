"""llama.cpp's own programs, built from the same source as the engine and kept in the cache.

They are built with llama.cpp's default flags, as people get them, but for AMX: see
scripts/lib/prepare/machine.py. This file does not know what the programs are run for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from .cache import cache_dir
from .llama_source import SourceError, llama_source, llama_version

# Everything that would need the network or a library that speed does not depend on.
CONFIGURE = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_C_FLAGS=-U__AMX_INT8__",
    "-DCMAKE_CXX_FLAGS=-U__AMX_INT8__",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
]
NEEDED = {"cmake": "cmake", "c++": "a C++ compiler (g++)"}
LOG_LINES = 15


def llama_program(name: str, cache: Path | None = None) -> Path:
    """llama-bench or llama-server; compiled at a low priority the first time (minutes).

    Raises: SourceError, which says what is missing, or ends with the compiler's last words.
    """
    cache = cache or cache_dir()
    build = cache / f"build-{llama_version()}"
    program = build / "bin" / name
    if program.is_file():
        return program
    lacking = [what for command, what in NEEDED.items() if shutil.which(command) is None]
    if lacking:
        raise SourceError(
            f"{' and '.join(lacking)} needed to build {name}; "
            "install with `apt install cmake g++` and try again"
        )
    source = llama_source(cache)
    print(f"building {name} in {build} (minutes, once)", file=sys.stderr, flush=True)
    log = cache / "build.log"
    with log.open("w") as output:
        for command in (
            ["cmake", "-S", str(source), "-B", str(build), *_generator(build), *CONFIGURE],
            ["cmake", "--build", str(build), "--target", name, "-j", str(os.cpu_count())],
        ):
            nice = ["nice", "-n", "10", *command]
            if subprocess.run(nice, stdout=output, stderr=output, check=False).returncode != 0:
                raise SourceError(f"building {name} failed; the end of {log}:\n{log_end(log)}")
    return program


def log_end(log: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log, for a message; empty where there is none."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _generator(build: Path) -> list[str]:
    """Ninja where it is installed; a directory that is set up keeps what it was set up with."""
    if (build / "CMakeCache.txt").is_file() or shutil.which("ninja") is None:
        return []
    return ["-G", "Ninja"]
