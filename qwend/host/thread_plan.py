"""How many threads should compute, and on which CPUs: a pure function of the topology.

Rule 1: a step ends with its slowest thread, so n threads are worth n times the slowest core.
Rule 2: the plan is the most there may be; the engine measures whether fewer are quicker.
Rule 3: this file reads nothing and pins nothing.

The kinds of core are told apart by capacity. Decode waits for the memory, and a few big cores
take all that it gives: on an RK3588 (4 big, 4 little) llama.cpp made 6.9 tokens/s with 4 threads
and 3.8 with 8 (llama.cpp issue 7176), and E cores slow an Intel down (issue 5225).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qwend.host.cpu import Cpu, Topology, format_cpu_list

# Smaller cores are taken in only where that gains clearly: they cost memory bandwidth and power.
WORTH_SMALLER_CORES = 1.25
# With so many bigger ones, smaller cores are left alone whatever they add up to (see above).
ENOUGH_CORES = 4
# Cores of one kind differ by their favoured few: 5.8 against 5.5 GHz on an i9-13900K, 2.4 against
# 2.26 on an RK3588. The next kind is at most 70 % (a middle core of an Arm SoC).
SAME_KIND = 0.8


@dataclass(frozen=True, slots=True)
class ThreadPlan:
    """How many threads, and the CPU each is to be pinned to; no cpus: pin nothing.

    reasons: where the plan is less than what was asked for or what the machine has, for a person.
    why: how it came about, for a person; two plans are equal whatever their words.
    """

    threads: int
    cpus: tuple[int, ...]
    reasons: tuple[str, ...]
    why: str = field(default="", compare=False)


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
    refused = frozenset(affinity) - frozenset(asked)
    if refused:
        reasons.append(
            f"CPUs {_listed(refused)} of [host] affinity are offline or not allowed here"
        )
    if affinity and not asked:
        reasons.append("no CPU of [host] affinity is left, so all that are allowed are used")
    chosen = list((asked or usable).values())
    if not chosen:
        reasons.append("no CPU is known to be usable, so one thread runs wherever it may")
        return ThreadPlan(1, (), tuple(reasons), "no CPU is known to be usable")
    first, rest = _one_of_each_core(chosen)
    most = None if quota_cpus is None else max(1, int(quota_cpus))
    if wanted:
        threads, why = min(wanted, len(chosen)), "as many as [engine] threads asks for"
        if threads < wanted:
            reasons.append(f"{wanted} threads were asked for, but only {threads} CPUs are usable")
        if most is not None and threads > most:
            reasons.append(
                f"{threads} threads are more than the {quota_cpus:g} CPUs the control group "
                "allows, so all will be stopped together at times"
            )
    else:
        threads, why = _worth_using(first) if not asked else (len(first), _each(len(first)))
        if most is not None and threads > most:
            threads = most
            why = f"the control group allows {quota_cpus:g} CPUs"
            reasons.append(f"{why}, so threads are {threads}")
    if asked:
        why += ", on the CPUs of [host] affinity"
    elif len(usable) < len(known):
        why += f"; this process may use CPUs {format_cpu_list(frozenset(usable))} only"
    cpus = tuple(cpu.number for cpu in (first + rest)[:threads])
    return ThreadPlan(threads, cpus, tuple(reasons), why)


def _one_of_each_core(cpus: Iterable[Cpu]) -> tuple[list[Cpu], list[Cpu]]:
    """Return one CPU of each core and the remaining SMT siblings.

    Biggest first, then those of one package together: a thread on another socket reads the
    weights over the link between them. Then the fastest.
    """
    ranked = sorted(
        cpus, key=lambda c: (-(c.capacity or 0), c.package or 0, -(c.max_khz or 0), c.number)
    )
    first: list[Cpu] = []
    rest: list[Cpu] = []
    taken: set[int] = set()
    for cpu in ranked:
        (rest if cpu.number in taken else first).append(cpu)
        taken |= cpu.core
    return first, rest


def _worth_using(cores: list[Cpu]) -> tuple[int, str]:
    """Return how many of the cores, biggest first, compute fastest together, and why."""
    if any(core.capacity is None for core in cores):
        return len(cores), _each(len(cores))
    best, best_speed = 0, 0.0
    for count in _ends_of_kinds(cores):
        speed = count * float(cores[count - 1].capacity or 0)
        if best < ENOUGH_CORES and (not best or speed >= best_speed * WORTH_SMALLER_CORES):
            best, best_speed = count, speed
    left = len(cores) - best
    if not left:
        return best, _each(best)
    return best, f"{_each(best, 'bigger ')}; the {left} smaller would hold them up"


def _ends_of_kinds(cores: list[Cpu]) -> Iterable[int]:
    """How many cores there are up to the end of each kind, as 4 and 8 of 4 big and 4 little."""
    biggest = cores[0].capacity or 0
    for count, core in enumerate(cores[1:], start=1):
        if (core.capacity or 0) < biggest * SAME_KIND:
            yield count
            biggest = core.capacity or 0
    yield len(cores)


def _each(count: int, kind: str = "") -> str:
    if count == 1:
        return f"one thread on the only {kind}core"
    return f"one thread on each of the {count} {kind}cores"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
