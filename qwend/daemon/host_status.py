"""The `host` part of the status map: what this machine is, and what was tuned on it.

Owns nothing; one key for each subject (`cpu`, `governor`, ...), each built by a function here from
what its owner knows. Keys may be added, never renamed: they are part of the protocol.
"""

from __future__ import annotations

from typing import Any

from qwend.config import HostConfig
from qwend.daemon.tuning import Tuning
from qwend.host.cpufreq import Knob, read_policies
from qwend.host.root import HostRoot
from qwend.host.thread_plan import ThreadPlan


def host_status(tuning: Tuning | None, host: HostRoot, wanted: HostConfig) -> dict[str, Any]:
    """tuning: None before the machine was looked at. wanted: what the operator asks for."""
    parts: dict[str, Any] = {"governor": governor_status(host, wanted)}
    if tuning is not None:
        parts["cpu"] = cpu_status(tuning.plan)
    return parts


def cpu_status(plan: ThreadPlan) -> dict[str, Any]:
    """threads: how many were planned; cpus: the CPU of each, empty if they are not pinned."""
    return {"threads": plan.threads, "cpus": list(plan.cpus), "why": plan.why}


def governor_status(host: HostRoot, wanted: HostConfig) -> dict[str, Any]:
    """As it is now, whoever set it: policies that read the same are one of `clocks`."""
    clocks: dict[tuple[str, str], list[int]] = {}
    for policy in read_policies(host):
        reads = (policy.now.get(Knob.GOVERNOR, ""), policy.now.get(Knob.PREFERENCE, ""))
        clocks.setdefault(reads, []).extend(policy.cpus)
    return {
        "wanted": wanted.governor,
        "wanted_preference": wanted.energy_preference,
        "clocks": [
            {"cpus": cpus, "governor": governor, "preference": preference}
            for (governor, preference), cpus in clocks.items()
        ],
    }
