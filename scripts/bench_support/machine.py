"""What a figure was measured on, and whether the machine was quiet while it was."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from .interpreter import ROOT

# Two cores of which one is busy for a tenth of the time already cost a stream more than the
# differences that the benchmarks are to show.
QUIET_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Machine:
    cpu: str
    cores: int
    memory_mib: int
    kernel: str
    governor: str
    python: str
    llama_cpp_python: str
    commit: str

    def as_map(self) -> dict[str, str | int]:
        return asdict(self)


def this_machine() -> Machine:
    return Machine(
        cpu=_cpu_name(),
        cores=psutil.cpu_count() or 0,
        memory_mib=psutil.virtual_memory().total >> 20,
        kernel=platform.release(),
        governor=_first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        python=platform.python_version(),
        llama_cpp_python=importlib.metadata.version("llama-cpp-python"),
        commit=_commit(),
    )


def busy_share(seconds: float = 1.0) -> float:
    """The share of all cores that is in use, by whomever, over the next `seconds`."""
    before, begin = psutil.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, spent = psutil.cpu_times(), time.monotonic() - begin
    idle = after.idle + after.iowait - before.idle - before.iowait
    return float(max(0.0, 1 - idle / (spent * (psutil.cpu_count() or 1))))


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):  # x86; a Raspberry Pi's last line
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
