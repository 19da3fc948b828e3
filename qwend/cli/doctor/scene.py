"""All that the checks look at, gathered before the first of them runs.

Rule 1: nothing of the machine is read behind this but through `root`; a test makes a whole machine
of files and a status map.
Rule 2: this file judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwend.errors import HostError
from qwend.host.root import HostRoot
from qwend.paths import SYSTEM_RUNTIME

SYSTEM_CONFIG = "/etc/qwend/qwend.toml"


@dataclass(frozen=True, slots=True)
class DiskRead:
    """What a short reading of a model file gave. trouble: why there was none, instead."""

    path: str = ""
    read_bytes: int = 0
    took_s: float = 0.0
    trouble: str = ""

    @property
    def bytes_per_s(self) -> float:
        return self.read_bytes / self.took_s if self.took_s else 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """status: the daemon's, empty if it did not answer; then `trouble` is the error's code, or
    "silent" if nothing came in time, and `said` its text.

    socket: where it was looked for. named_by: what named that ("--socket", "QWEND_SOCKET"), empty
    if nothing did. socket_gid: of the group that may use it, None where it cannot be seen.
    gids: of the groups of this process. llama: the version beside this qwenctl, empty for none.
    synchronised: what the kernel says of the clock. disk: None if it was not to be read.
    """

    root: HostRoot
    socket: Path
    status: Mapping[str, object] = field(default_factory=dict)
    trouble: str = ""
    said: str = ""
    named_by: str = ""
    socket_gid: int | None = None
    user: str = "root"
    euid: int = 0
    gids: frozenset[int] = frozenset({0})
    qwend: str = ""
    python: str = ""
    llama: str = ""
    now_s: float = 0.0
    synchronised: bool | None = None
    disk: DiskRead | None = None

    @property
    def is_system(self) -> bool:
        """The machine's daemon, not that of one user."""
        return self.socket.is_relative_to(SYSTEM_RUNTIME)

    @property
    def pid(self) -> int:
        """The daemon's; 0 if it did not answer."""
        pid = self.status.get("pid")
        return pid if isinstance(pid, int) else 0

    @property
    def sudo(self) -> str:
        return "" if self.euid == 0 else "sudo "

    def systemctl(self, verb: str) -> str:
        """The command for this daemon's unit."""
        return f"{self.sudo}systemctl {verb}" if self.is_system else f"systemctl --user {verb}"

    @property
    def journal(self) -> str:
        """The command that shows what the daemon said of late."""
        whose = f"{self.sudo}journalctl" if self.is_system else "journalctl --user"
        return f"{whose} -u qwend -n 30"

    def text(self, path: str) -> str:
        """A file of the machine, stripped; empty where there is none."""
        try:
            return self.root.read_text(path).strip()
        except HostError:
            return ""

    def group_name(self, gid: int | None) -> str:
        """Its name in /etc/group (group(5)); empty if it is not there, or root's."""
        for name, number, _ in self._groups():
            if gid and number == str(gid):
                return name
        return ""

    def is_member(self, group: str) -> bool:
        """/etc/group says so, whether this login has it yet or not."""
        return any(name == group and self.user in members for name, _, members in self._groups())

    def _groups(self) -> list[tuple[str, str, list[str]]]:
        lines = (line.split(":") for line in self.text("/etc/group").splitlines())
        return [(each[0], each[2], each[3].split(",")) for each in lines if len(each) == 4]
