"""Tuning the machine for the model: which CPUs, how many threads, which governor.

Owns the order and the undo; how each is done is `qwend.host`'s. Nothing here is fatal: what the
machine refuses becomes a reason that `status` shows.
"""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qwend.config import Config
from qwend.host.cgroup import cpu_quota
from qwend.host.cpu import read_topology
from qwend.host.governor import restore, set_governor
from qwend.host.root import HostRoot
from qwend.host.thread_plan import ThreadPlan, plan_threads
from qwend.paths import Paths

log = logging.getLogger(__name__)

GOVERNOR_RECORD = "governor.json"


@dataclass(frozen=True, slots=True)
class Tuning:
    """plan: for the engine's threads. degraded: what the machine did not allow, in words."""

    plan: ThreadPlan
    degraded: tuple[str, ...]


def tune(config: Config, host: HostRoot, paths: Paths, undo: ExitStack) -> Tuning:
    """Plan the threads and set the governor; what was changed is put back by `undo`."""
    plan = plan_threads(
        read_topology(host),
        frozenset(os.sched_getaffinity(0)),
        cpu_quota(host),
        config.engine.threads,
        config.host.affinity,
    )
    log.info("%d threads on CPUs %s", plan.threads, ",".join(map(str, plan.cpus)))
    return Tuning(plan, (*plan.reasons, *_govern(config.host.governor, host, paths, undo)))


def _govern(wanted: str, host: HostRoot, paths: Paths, undo: ExitStack) -> tuple[str, ...]:
    record = paths.state / GOVERNOR_RECORD
    # A record that is there now was left by a run that could not put things back.
    left = restore(host, record).reasons
    if not wanted:
        return left
    undo.callback(_put_back, host, record)
    return (*left, *set_governor(host, wanted, record).reasons)


def _put_back(host: HostRoot, record: Path) -> None:
    for reason in restore(host, record).reasons:
        log.warning("%s", reason)
