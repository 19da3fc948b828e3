"""systemd's part: what it can do here, what share of the CPU it gives, what it limits.

Sources: NEWS of systemd (254: FileDescriptorStorePreserve=), systemd.resource-control(5) for
CPUWeight=, Documentation/admin-guide/cgroup-v2.rst (cpu.weight) and sched-design-CFS.rst for v1
(cpu.shares: 1024 is systemd's weight of 100), proc(5) for /proc/PID/limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from qwend.cli.amounts import number, part
from qwend.cli.doctor.finding import Finding, note, ok, warn
from qwend.cli.doctor.scene import Scene
from qwend.host.swap import swaps_in_use

# CPUWeight= of qwend.slice; what every other slice has is 100.
WEIGHT = 10_000
USUAL_WEIGHT = 100
_SHARES_PER_WEIGHT = 1024 / 100
# Its share is then 10 to 1 beside a busy slice, and tokens still come evenly.
ENOUGH_WEIGHT = 1000
KEEPS_OVER_STOP = 254
MEASURED = 252
# [limits] connections, and what the daemon opens beside them.
WANTED_FILES = 1100


def check_systemd(scene: Scene) -> Iterator[Finding]:
    """Which of what the units rely on this version has."""
    version = systemd_version(scene)
    if version is None:
        yield note("systemd", "not here: nothing starts qwend at boot or after a crash")
    elif version < MEASURED:
        yield note("systemd", f"{version}, older than what qwend is tested with ({MEASURED})")
    elif version < KEEPS_OVER_STOP:
        yield ok("systemd", f"{version}: connections outlive a restart, not a stop and a start")
    else:
        yield ok("systemd", f"{version}: connections outlive a restart")


def check_boot(scene: Scene) -> Iterator[Finding]:
    """Whether it comes up by itself: at boot, or for a user without a login."""
    if not _is_service(scene):
        if scene.pid:
            yield note(
                "service",
                "this daemon was started by hand",
                "It ends with its terminal, and nothing starts it again.",
                "sudo scripts/install, in a clone of qwend",
            )
        return
    if not scene.is_system:
        if not scene.root.exists(f"/var/lib/systemd/linger/{scene.user}"):
            yield note(
                "service",
                f"runs only while {scene.user} is logged in",
                mend=f"loginctl enable-linger {scene.user}",
            )
        return
    wanted = "/etc/systemd/system/*.target.wants/qwend.s*"
    if scene.root.glob(wanted):
        yield ok("service", "starts at every boot")
    else:
        yield warn("service", "does not start at boot", mend=scene.systemctl("enable qwend"))


def check_weight(scene: Scene) -> Iterator[Finding]:
    """Weights count among siblings only, so it is the slice at the top that has to have one."""
    groups = _groups(scene)
    if not groups or not _is_service(scene):
        return
    top = groups.strip("/").split("/")[0]
    if not scene.is_system:
        yield note("weight", f"its share of the CPU is that of {top}")
        return
    weight = _weight(scene, top)
    if weight is None:
        yield note("weight", f"what {top} weighs is not known: the controller `cpu` is not in use")
    elif weight >= ENOUGH_WEIGHT:
        yield ok("weight", f"{top} weighs {weight:,}, other slices {USUAL_WEIGHT}")
    else:
        yield warn(
            "weight",
            f"{top} weighs {weight:,}, as much as any other program",
            "One busy program then costs half of the speed; in qwend.slice it costs nothing.",
            "sudo scripts/install, in a clone of qwend, which puts qwend.slice back",
        )


def check_limits(scene: Scene) -> Iterator[Finding]:
    """Open files for as many connections as are allowed, locked memory where there is swap."""
    lines = scene.text(f"/proc/{scene.pid}/limits").splitlines() if scene.pid else []
    soft = {line[:25].strip(): line[25:].split()[0] for line in lines[1:] if line[25:].split()}
    files, locked = soft.get("Max open files", ""), soft.get("Max locked memory", "")
    if files.isdigit() and int(files) < WANTED_FILES:
        yield note(
            "limits",
            f"{files} open files: fewer connections than are allowed",
            mend=f"LimitNOFILE=4096 under [Service]: {scene.systemctl('edit qwend')}"
            if _is_service(scene)
            else "ulimit -n 4096, before the daemon is started",
        )
    size = number(part(scene.status, "model"), "bytes")
    if locked.isdigit() and int(locked) < size and swaps_in_use(scene.root):
        yield note("limits", f"{int(locked) // 2**20} MiB may be locked, less than the model has")
    elif files:
        yield ok("limits", f"{files} open files, {_amount(locked)} locked memory")


def systemd_version(scene: Scene) -> int | None:
    """From the name of its library, without starting a process; None: there is no systemd."""
    for pattern in ("/usr/lib/systemd/", "/usr/lib/*/systemd/", "/lib/systemd/"):
        for path in scene.root.glob(f"{pattern}libsystemd-shared-*.so"):
            found = re.search(r"shared-(\d+)", path)
            if found:
                return int(found[1])
    return None


def _is_service(scene: Scene) -> bool:
    return "qwend.service" in _groups(scene)


def _groups(scene: Scene) -> str:
    """The daemon's control group, as systemd names it: of v2, or its own hierarchy of v1."""
    paths = {}
    for line in scene.text(f"/proc/{scene.pid}/cgroup").splitlines() if scene.pid else ():
        number_, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths[controllers or number_] = path
    return paths.get("name=systemd") or paths.get("0", "")


def _weight(scene: Scene, slice_: str) -> int | None:
    for mount in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if (text := scene.text(f"{mount}/{slice_}/cpu.weight")).isdigit():
            return int(text)
    for mount in ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu"):
        if (text := scene.text(f"{mount}/{slice_}/cpu.shares")).isdigit():
            return round(int(text) / _SHARES_PER_WEIGHT)
    return None


def _amount(limit: str) -> str:
    return f"{int(limit) // 2**20} MiB of" if limit.isdigit() else "any amount of"
