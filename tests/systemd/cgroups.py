"""Control groups of a machine's own, one in each mounted hierarchy, and nothing left of them.

Rule 1: a group is made below our own (version 1) or below the root (version 2, where a group with
processes may not hand its controllers on), and removed with all that grew in it.
Rule 2: this file does not know what runs in them.

Sources: cgroups(7); the kernel's cgroup-v1/cpusets.rst (a new cpuset is empty and takes nobody).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "qwend-test-"
REMOVE_TIMEOUT_S = 5.0


class Groups:
    """directories: of the machine, one a hierarchy. controllers: what they limit and count."""

    def __init__(self, name: str) -> None:
        self.directories: list[Path] = []
        self.controllers: set[str] = set()
        self._switched_on: list[tuple[Path, str]] = []
        for mount, kind, options in _hierarchies():
            if kind == "cgroup2":
                self._make_v2(mount, name)
            else:
                self._make_v1(mount, options, name)

    def _make_v2(self, mount: Path, name: str) -> None:
        """On a hybrid host version 2 has no controllers; then there is nothing to switch on."""
        self._directory(mount / name)
        switch = mount / "cgroup.subtree_control"
        for controller in (mount / "cgroup.controllers").read_text().split():
            on = controller in switch.read_text().split()
            if not on:
                with suppress(OSError):  # a root with processes of its own, as in a container
                    switch.write_text(f"+{controller}")
                    self._switched_on.append((switch, controller))
                    on = True
            if on:
                self.controllers.add(controller)

    def _make_v1(self, mount: Path, options: str, name: str) -> None:
        parent = mount / _own_group(options).lstrip("/")
        if not parent.is_dir():  # in a container, whose own group is what is mounted
            parent = mount
        self._directory(parent / name)
        self.controllers.update(options.split(","))
        if "cpuset" in options.split(","):
            for part in ("cpuset.cpus", "cpuset.mems"):
                (parent / name / part).write_text((parent / part).read_text())

    def _directory(self, path: Path) -> None:
        for left in path.parent.glob(f"{PREFIX}*"):
            if not Path("/proc", left.name.removeprefix(PREFIX).split("-")[0]).exists():
                _remove(left)  # of a run that was killed
        path.mkdir()
        self.directories.append(path)

    def cpu_s(self) -> float:
        """CPU time that all in them have used so far, in seconds; 0 where nobody counts it."""
        for directory in self.directories:
            with suppress(OSError):
                return int((directory / "cpuacct.usage").read_text()) / 1e9
        for directory in self.directories:
            with suppress(OSError):
                lines = (directory / "cpu.stat").read_text().splitlines()
                return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6
        return 0.0

    def remove(self) -> None:
        for directory in self.directories:
            _remove(directory)
        for switch, controller in self._switched_on:
            with suppress(OSError):
                switch.write_text(f"-{controller}")


def new_name(number: int) -> str:
    return f"{PREFIX}{os.getpid()}-{number}"


def _hierarchies() -> list[tuple[Path, str, str]]:
    """(mount point, "cgroup" or "cgroup2", its name or controllers), below /sys/fs/cgroup."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        mount, (kind, _, options) = Path(left.split()[4]), right.split(maxsplit=2)
        if kind in ("cgroup", "cgroup2") and mount.is_relative_to("/sys/fs/cgroup"):
            kept = (o for o in options.split(",") if o not in ("rw", "ro", "xattr", "nsdelegate"))
            found.append((mount, kind, ",".join(kept)))
    return found


def _own_group(options: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if set(controllers.split(",")) == set(options.split(",")):
            return group
    return "/"


def _remove(directory: Path) -> None:
    """What has just ended may still be in it for a moment."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while directory.exists():
        for path, _, _ in os.walk(directory, topdown=False):
            with suppress(OSError):
                os.rmdir(path)
        if time.monotonic() > deadline:
            raise AssertionError(f"something still runs in {directory}")
        time.sleep(0.01)
