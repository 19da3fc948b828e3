"""Frequency scaling as the kernel offers it: policies, their governors and energy preferences.

Rule 1: one Policy is the CPUs that share a clock; what it does not offer is an empty tuple.
Rule 2: a write counts only if it reads back: some drivers take it and keep their own mind.
Rule 3: this file does not know what should be set, nor what was set before.

Sources: Documentation/admin-guide/pm/cpufreq.rst (policyN, affected_cpus, scaling_governor,
scaling_available_governors), Documentation/admin-guide/pm/intel_pstate.rst and amd-pstate.rst
(energy_performance_preference: in active mode the governor `performance` overrides it, and any
other value is then refused with EBUSY; it takes effect again with the governor `powersave`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from qwend.errors import HostError
from qwend.host.root import HostRoot

POLICIES = "/sys/devices/system/cpu/cpufreq"
PERFORMANCE = "performance"


class Knob(StrEnum):
    """What can be set on a policy; the value is the name of its file.

    In the order in which they have to be set: the governor decides what preferences it takes.
    """

    GOVERNOR = "scaling_governor"
    PREFERENCE = "energy_performance_preference"


_OFFERED = {
    Knob.GOVERNOR: "scaling_available_governors",
    Knob.PREFERENCE: "energy_performance_available_preferences",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """name: "policy0". cpus: those that are online. now: what each knob it has reads."""

    name: str
    cpus: tuple[int, ...]
    now: dict[Knob, str]
    offered: dict[Knob, tuple[str, ...]]


def read_policies(root: HostRoot) -> tuple[Policy, ...]:
    """Return the policies that can be read; none on a machine without frequency scaling."""
    found = []
    for path in root.glob(f"{POLICIES}/policy*/{Knob.GOVERNOR}"):
        name = path.split("/")[-2]
        now = {knob: value for knob in Knob if (value := _words(root, name, knob))}
        found.append(
            Policy(
                name,
                tuple(int(word) for word in _words(root, name, "affected_cpus") if word.isdigit()),
                {knob: value[0] for knob, value in now.items()},
                {knob: _words(root, name, _OFFERED[knob]) for knob in now},
            )
        )
    return tuple(found)


def read_knob(root: HostRoot, policy: str, knob: Knob) -> str:
    """Return what it reads now. Raises: HostError."""
    return root.read_text(_path(policy, knob)).strip()


def has_knob(root: HostRoot, policy: str, knob: Knob) -> bool:
    return root.exists(_path(policy, knob))


def write_knob(root: HostRoot, policy: str, knob: Knob, value: str) -> None:
    """Set it. Raises: HostError, also if it reads back as something else."""
    root.write_text(_path(policy, knob), value)
    now = read_knob(root, policy, knob)
    if now != value:
        raise HostError(_path(policy, knob), f"writing {value!r} to", f"it reads back {now!r}")


def may_write(root: HostRoot, policies: Iterable[str], knob: Knob) -> bool:
    """Say whether this process may set the knob of all these policies."""
    return all(root.may_write(_path(policy, knob)) for policy in policies)


def _path(policy: str, name: str) -> str:
    return f"{POLICIES}/{policy}/{name}"


def _words(root: HostRoot, policy: str, name: str) -> tuple[str, ...]:
    try:
        return tuple(root.read_text(_path(policy, name)).split())
    except HostError:
        return ()
