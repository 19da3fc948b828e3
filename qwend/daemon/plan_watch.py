"""The plan of the threads, and a look every few seconds whether it still holds.

CPUs go offline and come back, and control groups are changed, while the daemon runs. The kernel
itself moves threads off a CPU that goes; but then two share one, and each step waits for both.

Owns the plan in force and what it rests on; what is done about a new one is the caller's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from qwend.config import Config
from qwend.host.cgroup import allowed_cpus, cpu_quota
from qwend.host.cpu import ONLINE, format_cpu_list, read_cpu_list, read_topology
from qwend.host.root import HostRoot
from qwend.host.thread_plan import ThreadPlan, plan_threads

log = logging.getLogger(__name__)

# A look is some 10 small reads. A step that two threads on one CPU hold up is noticed sooner by the
# engine itself (company.py); this finds the plan that is right again.
LOOK_S = 5.0


def affinity_of_this_process() -> frozenset[int]:
    """The CPUs of sched_getaffinity(2): within the cpuset, and online."""
    return frozenset(os.sched_getaffinity(0))


def reasons_now(plan: ThreadPlan, started: ThreadPlan) -> tuple[str, ...]:
    """What is not as it could be. started: the plan that the engine was started for.

    Fewer threads it can do at once, other CPUs only when it is started again; the kernel moves its
    threads meanwhile, so this is slower at most.
    """
    if not started.cpus or set(plan.cpus) <= set(started.cpus):
        return plan.reasons
    before, now = (format_cpu_list(frozenset(each.cpus)) for each in (started, plan))
    return (
        *plan.reasons,
        f"the engine was started for CPUs {before} and would be quicker on {now}: restart qwend",
    )


def threads_refused(description: Mapping[str, Any], started: ThreadPlan) -> tuple[str, ...]:
    """Why fewer threads compute than the engine was started for, if the system refused some.

    description: what the engine says of itself; the scripted one has no threads.
    """
    threads = int(description.get("threads", 0))
    if not 0 < threads < started.threads:
        return ()
    return (
        f"{threads} of {started.threads} threads could be started, for a limit on processes is "
        "reached: raise TasksMax= of the unit, or `ulimit -u`, and restart qwend",
    )


class PlanWatch:
    """allowed: the CPUs this process may use now."""

    def __init__(
        self,
        config: Config,
        host: HostRoot,
        allowed: Callable[[], frozenset[int]] = affinity_of_this_process,
    ) -> None:
        self._config = config
        self._host = host
        self._allowed = allowed
        self._timer: Any = None
        self._basis = self._read_basis()
        self.plan = self._make()

    def look(self) -> bool:
        """True if there is another plan now."""
        basis = self._read_basis()
        if basis == self._basis:
            return False
        self._basis = basis
        before, self.plan = self.plan, self._make()
        return self.plan != before

    def start(
        self,
        call_later: Callable[[float, Callable[[], None]], Any],
        changed: Callable[[ThreadPlan], None],
    ) -> None:
        """Look again and again, and call `changed` with each new plan."""

        def look() -> None:
            if self.look():
                changed(self.plan)
            self._timer = call_later(LOOK_S, look)

        self._timer = call_later(LOOK_S, look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _read_basis(self) -> tuple[object, ...]:
        """What can change while the machine runs, cheap to read."""
        return (
            read_cpu_list(self._host, ONLINE),
            self._allowed(),
            allowed_cpus(self._host),
            cpu_quota(self._host),
        )

    def _make(self) -> ThreadPlan:
        allowed, group = self._allowed(), allowed_cpus(self._host)
        plan = plan_threads(
            read_topology(self._host),
            # Where they contradict each other, what the kernel tells this process counts.
            (allowed & group if group else allowed) or allowed,
            cpu_quota(self._host),
            self._config.engine.threads,
            self._config.host.affinity,
        )
        cpus = ",".join(map(str, plan.cpus))
        log.info("%d threads, on CPUs %s: %s", plan.threads, cpus or "of any number", plan.why)
        return plan
