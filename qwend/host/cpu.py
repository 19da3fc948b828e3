"""Which CPUs there are: cores, packages, threads of one core, and how big each core is.

Rule 1: this file reads; what is made of it is decided in `thread_plan`, as a pure function.
Rule 2: what the kernel does not say is left out, never guessed and never an error.

Sources: Documentation/admin-guide/cputopology.rst (topology/core_cpus_list, older kernels
thread_siblings_list, physical_package_id), Documentation/ABI/testing/sysfs-devices-system-cpu
(online, cpu_capacity), Documentation/admin-guide/pm/cpufreq.rst (cpuinfo_max_freq, in kHz),
tools/perf/Documentation/intel-hybrid.txt (cpu_atom/cpus).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qwend.errors import HostError
from qwend.host.root import HostRoot

CPUS = "/sys/devices/system/cpu"
ONLINE = f"{CPUS}/online"
# The performance counters of a hybrid Intel processor tell its E cores from the others.
INTEL_ATOM = "/sys/devices/cpu_atom/cpus"
# NR_CPUS is at most 8192 (arch/x86/Kconfig); without a bound, nonsense would fill the memory.
MAX_CPU = 8191
# What the biggest core has (SCHED_CAPACITY_SCALE, linux/sched.h).
FULL_CAPACITY = 1024
# Clock for clock, an E core does so much of a P core's work: 78,741 kHz of a P core make the
# performance of 100,000 kHz of an E core (HYBRID_SCALING_FACTOR_ADL and INTEL_PSTATE_CORE_SCALING,
# drivers/cpufreq/intel_pstate.c; 80,000 on Meteor Lake, 86,957 on Lunar Lake).
ATOM_SHARE = 0.787
# Where the clocks are unknown: 3.9 against 5.1 GHz times the above, an i9-12900K.
ATOM_CAPACITY = 600


@dataclass(frozen=True, slots=True)
class Cpu:
    """One logical CPU. core: all CPUs of the same physical core, itself included.

    capacity: relative to the biggest core, 1024; None where it is not known. max_khz: of its
    clock. package: the socket; kernels before 6.0 called a cluster of an Arm SoC so too.
    """

    number: int
    core: frozenset[int]
    capacity: int | None = None
    max_khz: int | None = None
    package: int | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """The online CPUs. Empty where the kernel does not say, as in some containers."""

    cpus: tuple[Cpu, ...]


def parse_cpu_list(text: str) -> frozenset[int]:
    """Parse the kernel's "0-3,5". Raises: ValueError for anything else."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, dash, last = part.partition("-")
            low, high = int(first), int(last if dash else first)
            if not 0 <= low <= high <= MAX_CPU:
                raise ValueError(f"no range of CPUs: {part!r}")
            numbers.update(range(low, high + 1))
    return frozenset(numbers)


def format_cpu_list(numbers: frozenset[int]) -> str:
    """The kernel's own form, "0-3,5"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)


def read_cpu_list(root: HostRoot, path: str) -> frozenset[int]:
    """Return the CPUs that a file lists; none where it is not there or not such a list."""
    try:
        return parse_cpu_list(root.read_text(path))
    except (HostError, ValueError):
        return frozenset()


def read_topology(root: HostRoot) -> Topology:
    """Return the online CPUs, as far as the kernel tells."""
    online = read_cpu_list(root, ONLINE)
    cpus = {number: _read_cpu(root, number, online) for number in sorted(online)}
    if len({cpu.capacity for cpu in cpus.values()}) <= 1:
        # All the same is what the kernel says too where it does not know: x86 has this file since
        # 6.16, and on a hybrid processor with SMT it reads 1024 for P and E cores alike.
        cpus = _with_intel_kinds(root, cpus)
    return Topology(tuple(cpus.values()))


def _read_cpu(root: HostRoot, number: int, online: frozenset[int]) -> Cpu:
    here = f"{CPUS}/cpu{number}"
    alone = frozenset({number})
    siblings = read_cpu_list(root, f"{here}/topology/core_cpus_list") or read_cpu_list(
        root, f"{here}/topology/thread_siblings_list"
    )
    return Cpu(
        number=number,
        core=(siblings | alone) & online,
        capacity=_number(root, f"{here}/cpu_capacity"),
        max_khz=_number(root, f"{here}/cpufreq/cpuinfo_max_freq"),
        package=_number(root, f"{here}/topology/physical_package_id"),
    )


def _with_intel_kinds(root: HostRoot, cpus: Mapping[int, Cpu]) -> dict[int, Cpu]:
    """Capacities from the kind of core and the clock, where there are P and E cores."""
    atoms = read_cpu_list(root, INTEL_ATOM) & cpus.keys()
    if not 0 < len(atoms) < len(cpus):
        return dict(cpus)
    fastest = max((cpu.max_khz or 0 for cpu in cpus.values()), default=0)
    known = all(cpu.max_khz for cpu in cpus.values())

    def capacity(cpu: Cpu) -> int:
        if not known:
            return ATOM_CAPACITY if cpu.number in atoms else FULL_CAPACITY
        share = ATOM_SHARE if cpu.number in atoms else 1.0
        return round(FULL_CAPACITY * share * (cpu.max_khz or 0) / fastest)

    return {number: replace(cpu, capacity=capacity(cpu)) for number, cpu in cpus.items()}


def _number(root: HostRoot, path: str) -> int | None:
    try:
        number = int(root.read_text(path))
    except (HostError, ValueError):
        return None
    return number if number >= 0 else None
