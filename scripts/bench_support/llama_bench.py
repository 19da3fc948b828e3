"""llama.cpp's own llama-bench: built from the same source as the engine, and run.

This is the yardstick of raw speed: no sockets, no sampling beyond a random token, no scheduler.
It is built with llama.cpp's default flags, as people get it, but for AMX: see
scripts/lib/prepare/machine.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
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
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
]


@dataclass(frozen=True, slots=True)
class LlamaBenchRun:
    """One `llama-bench -p 0 -n N` measurement."""

    tokens_per_s: float
    spread_tokens_per_s: float


def llama_bench(cache: Path | None = None) -> Path:
    """The llama-bench program; compiled at the lowest priority the first time (minutes)."""
    cache = cache or cache_dir()
    build = cache / f"build-{llama_version()}"
    program = build / "bin" / "llama-bench"
    if program.is_file():
        return program
    if shutil.which("cmake") is None:
        raise SourceError("cmake is needed to build llama-bench; install it and try again")
    source = llama_source(cache)
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    print(f"building llama-bench in {build} (minutes, once)", file=sys.stderr, flush=True)
    log = cache / "build.log"
    with log.open("w") as output:
        for command in (
            ["cmake", "-S", str(source), "-B", str(build), *generator, *CONFIGURE],
            ["cmake", "--build", str(build), "--target", "llama-bench", "-j", str(os.cpu_count())],
        ):
            nice = ["nice", "-n", "10", *command]
            if subprocess.run(nice, stdout=output, stderr=output, check=False).returncode != 0:
                raise SourceError(f"building llama-bench failed; the compiler's words: {log}")
    return program


def run_llama_bench(
    program: Path,
    model: Path,
    *,
    threads: int,
    tokens: int,
    flash_attention: str,
    repetitions: int = 1,
) -> LlamaBenchRun:
    """Decode `tokens` tokens after an empty prompt; llama-bench warms up by itself.

    flash_attention: "on" or "off". Left to itself llama-bench turns it on.
    """
    command = [str(program), "-m", str(model), "-p", "0", "-n", str(tokens), "-t", str(threads)]
    command += ["-fa", flash_attention, "-r", str(repetitions), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SourceError(f"llama-bench failed ({done.returncode}): {done.stderr[-500:]}")
    (row,) = json.loads(done.stdout)
    return LlamaBenchRun(
        tokens_per_s=float(row["avg_ts"]),
        spread_tokens_per_s=float(row["stddev_ts"]),
    )
