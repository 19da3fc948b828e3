"""Two control groups beside each other: one of high CPU weight, one as others are.

As systemd/qwend.slice has it (CPUWeight=10000 against 100). Sources: the kernel's cgroup-v2.rst
(cpu.weight, 1 to 10,000, default 100) and scheduler/sched-design-CFS.rst for version 1
(cpu.shares, default 1,024; the same proportion is 102,400).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HIGH, USUAL = 10_000, 100
SHARES_PER_WEIGHT = 1024 / USUAL
ROOT = Path("/sys/fs/cgroup")
REMOVE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups with a CPU weight are made. setting: the file in a group that holds it."""

    root: Path
    setting: str

    def setting_of(self, weight: int) -> int:
        return weight if self.setting == "cpu.weight" else round(weight * SHARES_PER_WEIGHT)


def hierarchy(root: Path = ROOT) -> Hierarchy | str:
    """The hierarchy in which we may make groups, or why there is none.

    Nothing of the host is changed for it: the cpu controller has to be on for the root's children.
    """
    if (root / "cgroup.controllers").is_file():
        found = Hierarchy(root, "cpu.weight")
        if "cpu" not in _words(root / "cgroup.subtree_control"):
            return f"the cpu controller is off in {root}/cgroup.subtree_control"
    elif (root / "cpu" / "cpu.shares").is_file() or (root / "cpu" / "tasks").is_file():
        found = Hierarchy(root / "cpu", "cpu.shares")
    else:
        return f"no cpu controller below {root}"
    if not os.access(found.root, os.W_OK):
        return f"no right to make groups in {found.root}; run as root"
    return found


class CpuGroup:
    """A group directly below the root of its hierarchy; `remove` when its processes are gone."""

    def __init__(self, where: Hierarchy, name: str, weight: int) -> None:
        self.path = where.root / name
        self.path.mkdir()
        try:
            (self.path / where.setting).write_text(str(where.setting_of(weight)))
        except OSError:
            self.path.rmdir()
            raise

    def take(self, pids: Iterable[int]) -> None:
        """Move these processes, with all their threads, into the group."""
        for pid in pids:
            (self.path / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """What has just ended may still be in it for a moment."""
        deadline = time.monotonic() + REMOVE_TIMEOUT_S
        while True:
            try:
                self.path.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
