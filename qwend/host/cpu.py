"""Which CPUs there are, and which of them should compute.

Rule 1: `read_topology` reads, `plan_threads` decides; the decision is a pure function.
Rule 2: this file does not know what is computed, and pins nothing itself.

Sources: Documentation/admin-guide/cputopology.rst (topology/core_cpus_list, older kernels
thread_siblings_list), Documentation/ABI/testing/sysfs-devices-system-cpu (online, cpu_capacity,
cpufreq/cpuinfo_max_freq).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.root import HostRoot

CPUS = "/sys/devices/system/cpu"
# NR_CPUS is at most 8192 (arch/x86/Kconfig); without a bound, nonsense would fill the memory.
MAX_CPU = 8191
# A step ends with its slowest thread, so n threads give n times the slowest core. Smaller cores
# are taken in only where that gains clearly: they cost memory bandwidth and power as well.
WORTH_SMALLER_CORES = 1.25


@dataclass(frozen=True, slots=True)
class Cpu:
    """One logical CPU. core: all CPUs of the same physical core, itself included.

    capacity: relative to the biggest core, 1024; None where the kernel does not say (one kind of
    core, or x86 before 6.12). max_khz: of its clock.
    """

    number: int
    core: frozenset[int]
    capacity: int | None = None
    max_khz: int | None = None


@dataclass(frozen=True, slots=True)
class Topology:
    """The online CPUs. Empty where the kernel does not say, as in some containers."""

    cpus: tuple[Cpu, ...]


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """How many threads, and the CPU each is to be pinned to; no cpus: pin nothing.

    reasons: where the plan is less than what was asked for or what the machine has, for a person.
    """

    threads: int
    cpus: tuple[int, ...]
    reasons: tuple[str, ...]


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


def read_topology(root: HostRoot) -> Topology:
    """Return the online CPUs; what the kernel does not say of one is left out, never an error."""
    online = _cpu_list(root, f"{CPUS}/online", frozenset())
    cpus = []
    for number in sorted(online):
        here = f"{CPUS}/cpu{number}"
        alone = frozenset({number})
        siblings = _cpu_list(root, f"{here}/topology/thread_siblings_list", alone)
        cpus.append(
            Cpu(
                number=number,
                core=(_cpu_list(root, f"{here}/topology/core_cpus_list", siblings) | alone)
                & online,
                capacity=_number(root, f"{here}/cpu_capacity"),
                max_khz=_number(root, f"{here}/cpufreq/cpuinfo_max_freq"),
            )
        )
    return Topology(tuple(cpus))


def plan_threads(
    topology: Topology,
    allowed: frozenset[int],
    quota_cpus: float | None,
    wanted: int,
    affinity: tuple[int, ...],
) -> ThreadPlan:
    """Choose the threads and their CPUs: one on each physical core, the big cores first.

    allowed: os.sched_getaffinity. quota_cpus: CPUs' worth of time the cgroup allows, None: no
    limit. wanted: threads the operator asks for, 0: decide here. affinity: CPUs the operator asks
    for, empty: all that are allowed. What is asked for is followed as far as the kernel allows.
    """
    reasons: list[str] = []
    known = {cpu.number: cpu for cpu in topology.cpus}
    usable = {n: known.get(n) or Cpu(n, frozenset({n})) for n in allowed if not known or n in known}
    asked = {n: cpu for n, cpu in usable.items() if n in affinity}
    refused = sorted(set(affinity) - set(asked))
    if refused:
        reasons.append(
            f"CPUs {_listed(refused)} of [host] affinity are offline or not allowed here"
        )
    if affinity and not asked:
        reasons.append("no CPU of [host] affinity is left, so all that are allowed are used")
    chosen = list((asked or usable).values())
    if not chosen:
        reasons.append("no CPU is known to be usable, so one thread runs wherever it may")
        return ThreadPlan(1, (), tuple(reasons))
    first, rest = _one_of_each_core(chosen)
    if wanted:
        threads = min(wanted, len(chosen))
        if threads < wanted:
            reasons.append(f"{wanted} threads were asked for, but only {threads} CPUs are usable")
        if quota_cpus is not None and threads > max(1, int(quota_cpus)):
            reasons.append(
                f"{threads} threads are more than the {quota_cpus:g} CPUs the control group "
                "allows, so all will be stopped together at times"
            )
    else:
        threads = len(first) if asked else _worth_using(first)
        if quota_cpus is not None and threads > max(1, int(quota_cpus)):
            threads = max(1, int(quota_cpus))
            reasons.append(
                f"the control group allows {quota_cpus:g} CPUs, so threads are {threads}"
            )
    return ThreadPlan(threads, tuple(c.number for c in (first + rest)[:threads]), tuple(reasons))


def _one_of_each_core(cpus: Iterable[Cpu]) -> tuple[list[Cpu], list[Cpu]]:
    """Return one CPU of each core and the remaining SMT siblings, biggest and fastest first."""
    ranked = sorted(cpus, key=lambda c: (-(c.capacity or 0), -(c.max_khz or 0), c.number))
    first: list[Cpu] = []
    rest: list[Cpu] = []
    taken: set[int] = set()
    for cpu in ranked:
        (rest if cpu.number in taken else first).append(cpu)
        taken |= cpu.core
    return first, rest


def _worth_using(cores: list[Cpu]) -> int:
    """Return how many of the cores, ordered by capacity, compute fastest together."""
    if any(core.capacity is None for core in cores):
        return len(cores)
    best, best_speed = 0, 0.0
    for count, core in enumerate(cores, start=1):
        is_last_of_its_kind = count == len(cores) or cores[count].capacity != core.capacity
        speed = count * float(core.capacity or 0)
        if is_last_of_its_kind and (not best or speed >= best_speed * WORTH_SMALLER_CORES):
            best, best_speed = count, speed
    return best


def _cpu_list(root: HostRoot, path: str, otherwise: frozenset[int]) -> frozenset[int]:
    try:
        return parse_cpu_list(root.read_text(path)) or otherwise
    except (HostError, ValueError):
        return otherwise


def _number(root: HostRoot, path: str) -> int | None:
    try:
        return int(root.read_text(path))
    except (HostError, ValueError):
        return None


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
