"""The `host` part of the status map: what this machine is, and what was tuned on it.

Owns nothing; one key for each subject (`cpu`, `governor`, ...), each built by a function here from
what its owner knows. Keys may be added, never renamed: they are part of the protocol.
"""

from __future__ import annotations

from typing import Any

from qwend.daemon.tuning import Tuning
from qwend.host.thread_plan import ThreadPlan


def host_status(tuning: Tuning | None) -> dict[str, Any]:
    """tuning: None before the machine was looked at."""
    parts: dict[str, Any] = {}
    if tuning is not None:
        parts["cpu"] = cpu_status(tuning.plan)
    return parts


def cpu_status(plan: ThreadPlan) -> dict[str, Any]:
    """threads: how many compute; cpus: the CPU of each, empty if they are not pinned."""
    return {"threads": plan.threads, "cpus": list(plan.cpus)}
