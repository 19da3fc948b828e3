"""What a compiled llama.cpp depends on: CPU, compiler, flags; and what the machine lacks.

Rule 1: all that makes two wheels different goes into `wheel_key`.
Rule 2: this file does not compile anything.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# Built without OpenMP decoding keeps a usable speed beside other busy programs (0.8 against
# 22 tokens/s with one busy process on two cores), and it compiles in half the time. The vision
# library is not used.
DEFAULT_CMAKE_ARGS = "-DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF"

# GCC before 15 forgets most of the tile configuration that llama.cpp's AMX code has just written
# (amxtileintrin.h names 8 of its 64 bytes as read), and `ldtilecfg` then ends the process on the
# first batch of more than one row. Seen with GCC 12.2 on a Xeon; AVX-512 does the work instead.
WITHOUT_AMX = "-U__AMX_INT8__"

CXX_COMPILERS = ("c++", "g++", "clang++")
C_COMPILERS = ("cc", "gcc", "clang")

# Lines of /proc/cpuinfo that name the CPU and what it can do, on x86, Arm and RISC-V. llama.cpp
# compiles for exactly this CPU (GGML_NATIVE): on another one the wheel may end in SIGILL.
_CPU_LINES = frozenset(
    (
        *("vendor_id", "cpu family", "model", "model name", "flags"),
        *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
        *("isa", "uarch"),
    )
)


def cmake_args(environ: Mapping[str, str]) -> str:
    """Return the caller's own CMAKE_ARGS if they are set, else ours."""
    return environ.get("CMAKE_ARGS", DEFAULT_CMAKE_ARGS)


def compiler_flags(environ: Mapping[str, str], variable: str) -> str:
    """Return the caller's own flags and ours: `variable` is CFLAGS or CXXFLAGS."""
    return f"{environ.get(variable, '')} {WITHOUT_AMX}".strip()


def build_identity(environ: Mapping[str, str], cpuinfo: str | None = None) -> str:
    """Return a digest of CPU and flags: a wheel of another identity must not run here."""
    flags = [cmake_args(environ)] + [compiler_flags(environ, n) for n in ("CFLAGS", "CXXFLAGS")]
    return _digest(platform.machine(), _cpu(cpuinfo), *flags)


def wheel_key(requirement: str, environ: Mapping[str, str]) -> str:
    """Return the name of the cache entry for this machine, compiler and requirement."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = _digest(
        requirement, python, build_identity(environ), _compiler_version(environ, "CXX")
    )
    return f"py{python}-{platform.machine()}-{digest[:16]}"


def find_compiler(environ: Mapping[str, str], variable: str) -> str | None:
    """Return the compiler that CMake would take: `variable` is CC or CXX."""
    named = environ.get(variable, "").split()
    candidates = named[:1] or (CXX_COMPILERS if variable == "CXX" else C_COMPILERS)
    return next((path for name in candidates if (path := shutil.which(name))), None)


def missing_packages(
    environ: Mapping[str, str], *, to_build: bool, to_make_venv: bool
) -> list[str]:
    """Return the names of the Debian packages without which we cannot go on."""
    missing = []
    if to_make_venv and not _has_venv():
        # python3-venv belongs to the distribution's default; another version has its own package.
        default = os.path.realpath("/usr/bin/python3")
        own = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        is_default = os.path.realpath(sys.executable) == default
        missing.append("python3-venv" if is_default else own)
    if to_build and not (find_compiler(environ, "CXX") and find_compiler(environ, "CC")):
        missing.append("g++")
    return missing


def build_jobs(environ: Mapping[str, str]) -> str:
    """Return how many files to compile at once.

    One compilation of llama.cpp takes up to 0.7 GB; a Raspberry Pi with 1 GB and 4 cores would
    spend its time swapping.
    """
    if environ.get("CMAKE_BUILD_PARALLEL_LEVEL"):
        return environ["CMAKE_BUILD_PARALLEL_LEVEL"]
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass  # the count of free pages is lower than what is available, and good enough
    return str(max(1, min(len(os.sched_getaffinity(0)), free // 700_000_000)))


def _has_venv() -> bool:
    # Debian splits ensurepip off into python3-venv; `python3 -m venv` then fails half way.
    probe = [sys.executable, "-c", "import venv, ensurepip"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def _cpu(cpuinfo: str | None) -> str:
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return platform.processor()
    # A set: the cores of a big.LITTLE machine differ, and their number does not matter.
    lines = {
        f"{name.strip()}:{value.strip()}"
        for name, _, value in (line.partition(":") for line in cpuinfo.splitlines())
        if name.strip() in _CPU_LINES
    }
    return "\n".join(sorted(lines))


def _compiler_version(environ: Mapping[str, str], variable: str) -> str:
    compiler = find_compiler(environ, variable)
    if compiler is None:
        return "none"
    shown = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return shown.stdout.partition("\n")[0]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
