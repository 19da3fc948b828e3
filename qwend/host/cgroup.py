"""What the control groups above a process leave it: CPUs, CPU time and memory.

Rule 1: a limit anywhere above counts, so every ancestor is asked and the tightest wins.
Rule 2: this file does not know what the limits are used for.

Sources: Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max, memory.high,
memory.current, memory.stat), Documentation/scheduler/sched-bwc.rst and cgroup-v1/memory.rst for v1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from qwend.errors import HostError
from qwend.host.cpu import read_cpu_list
from qwend.host.root import HostRoot

N = TypeVar("N", int, float)

# Where systemd and container runtimes mount them; "unified" on a machine that mixes both.
_V2 = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_V1 = "/sys/fs/cgroup/"
_FILE_CACHE = ("inactive_file", "active_file")  # lines of memory.stat


def cpu_quota(root: HostRoot, pid: str = "self") -> float | None:
    """Return how many CPUs' worth of time the process may use, None: no limit."""
    return _tightest(root, pid, "cpu", _cpu_max, _cfs_quota)


def allowed_cpus(root: HostRoot, pid: str = "self") -> frozenset[int] | None:
    """Return the CPUs that the nearest cpuset above the process leaves it, None: no such limit.

    Those of sched_getaffinity(2) are never more: this says why they are fewer than the machine has.
    """
    for directory, is_v2 in _directories(root, pid, "cpuset"):
        # cgroup-v2.rst; Documentation/admin-guide/cgroup-v1/cpusets.rst. Both: online CPUs only.
        name = "cpuset.cpus.effective" if is_v2 else "cpuset.effective_cpus"
        cpus = read_cpu_list(root, f"{directory}/{name}")
        if cpus:
            return cpus
    return None


def memory_available(root: HostRoot, pid: str = "self") -> int | None:
    """Return the bytes the process may take before a limit slows it down, None: no limit.

    Cache of files that the kernel would drop first counts as free, as in MemAvailable.
    """
    return _tightest(root, pid, "memory", _memory_v2, _memory_v1)


def memory_before_oom(root: HostRoot, pid: str = "self") -> int | None:
    """Return the bytes before something is killed, None: no limit.

    All cache of files counts as free, for it is dropped before; not what lies in a tmpfs.
    """
    return _tightest(root, pid, "memory", _before_oom_v2, _before_oom_v1)


def own_directory(root: HostRoot, controller: str, pid: str = "self") -> str | None:
    """Return the directory of the process's own v2 group, None if it is in the machine's root.

    A container's "/" is a group like others: it has limits, which the root has not.
    """
    for directory, is_v2 in _directories(root, pid, controller):
        if is_v2 and root.exists(f"{directory}/{controller}.max"):
            return directory
    return None


def _tightest(
    root: HostRoot,
    pid: str,
    controller: str,
    read_v2: Callable[[HostRoot, str], N | None],
    read_v1: Callable[[HostRoot, str], N | None],
) -> N | None:
    found: list[N] = []
    for directory, is_v2 in _directories(root, pid, controller):
        limit = (read_v2 if is_v2 else read_v1)(root, directory)
        if limit is not None:
            found.append(limit)
    return min(found, default=None)


def _directories(root: HostRoot, pid: str, controller: str) -> Iterator[tuple[str, bool]]:
    """Yield (directory, is v2) of the process's groups and all their ancestors.

    In a container without a cgroup namespace the path in /proc is the host's and does not exist
    here; its own group is then the mount itself, which the way up ends in.
    """
    try:
        lines = root.read_text(f"/proc/{pid}/cgroup").splitlines()
    except HostError:
        return
    for line in lines:
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            mounts = _V2
        elif controller in controllers.split(","):
            mounts = (_V1 + controllers, _V1 + controller)
        else:
            continue
        # "/../.." is a group outside our namespace: only the mount can be seen.
        parts = [] if ".." in path.split("/") else [part for part in path.split("/") if part]
        for mount in dict.fromkeys(mounts):
            for depth in range(len(parts), -1, -1):
                yield "/".join([mount, *parts[:depth]]), mounts is _V2


def _cpu_max(root: HostRoot, directory: str) -> float | None:
    words = (_text(root, f"{directory}/cpu.max") or "max").split()
    quota, period = _integer(words[0]), _integer(words[-1])
    return quota / period if len(words) == 2 and quota and period else None


def _cfs_quota(root: HostRoot, directory: str) -> float | None:
    quota = _integer(_text(root, f"{directory}/cpu.cfs_quota_us"))
    period = _integer(_text(root, f"{directory}/cpu.cfs_period_us"))
    return quota / period if quota and period and quota > 0 else None


def _memory_v2(root: HostRoot, directory: str) -> int | None:
    # Above memory.high nothing is killed, but the group stands still for most of the time.
    limits = [
        _headroom(root, directory, limit, "memory.current", ("inactive_file",))
        for limit in ("memory.max", "memory.high")
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _before_oom_v2(root: HostRoot, directory: str) -> int | None:
    return _headroom(root, directory, "memory.max", "memory.current", _FILE_CACHE)


def _memory_v1(root: HostRoot, directory: str) -> int | None:
    return _headroom_v1(root, directory, ("total_inactive_file",))


def _before_oom_v1(root: HostRoot, directory: str) -> int | None:
    return _headroom_v1(root, directory, tuple(f"total_{name}" for name in _FILE_CACHE))


def _headroom_v1(root: HostRoot, directory: str, cache: tuple[str, ...]) -> int | None:
    limit = _headroom(root, directory, "memory.limit_in_bytes", "memory.usage_in_bytes", cache)
    # No limit is LONG_MAX rounded down to a page; nothing real comes near.
    return limit if limit is not None and limit < 2**60 else None


def _headroom(
    root: HostRoot, directory: str, limit: str, used: str, cache: tuple[str, ...]
) -> int | None:
    limit_bytes = _integer(_text(root, f"{directory}/{limit}"))
    used_bytes = _integer(_text(root, f"{directory}/{used}"))
    if limit_bytes is None or used_bytes is None:
        return None
    droppable = 0
    for line in (_text(root, f"{directory}/memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name in cache:
            droppable += _integer(value) or 0
    return max(0, limit_bytes - max(0, used_bytes - droppable))


def _text(root: HostRoot, path: str) -> str | None:
    # The root group has no limits and so no such files.
    try:
        return root.read_text(path).strip() or None
    except HostError:
        return None


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
