"""What a figure was measured on, and whether the machine was quiet while it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from .interpreter import ROOT

# Two threads that meet after every layer are as quick as the slower one, so company costs several
# times its share; beyond this it costs more than the differences that are to be shown.
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


class Company:
    """How much of the machine others use while something is measured.

    own_cpu_s: what belongs to the measurement besides this process and the children it has waited
    for, in seconds of CPU so far.
    """

    def __init__(self, own_cpu_s: Callable[[], float]) -> None:
        self._own_cpu_s = own_cpu_s
        self._begin = self._now()

    def share(self) -> float:
        """0 to 1 of all cores, since this object was made."""
        then, now = self._begin, self._now()
        wall_s, busy_s, own_s = (b - a for a, b in zip(then, now, strict=True))
        return max(0.0, (busy_s - own_s) / (wall_s * (psutil.cpu_count() or 1)))

    def _now(self) -> tuple[float, float, float]:
        every = psutil.cpu_times()
        busy_s = sum(every) - every.idle - every.iowait
        # Linux counts what runs in a virtual machine of ours twice: as guest, and as user.
        busy_s -= every.guest + every.guest_nice
        own = os.times()
        children_s = own.children_user + own.children_system
        return time.monotonic(), busy_s, own.user + own.system + children_s + self._own_cpu_s()


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
