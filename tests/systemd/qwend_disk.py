"""The disk of a machine on which qwend is installed, and three people to use it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.systemd.fake_cpu import write_fake_cpu
from tests.systemd.installation import ROOT, Installation
from tests.systemd.machine import Disk

UNITS = ROOT / "systemd"
SOCKET = "/run/qwend/qwend.sock"
QWENCTL = "/opt/qwend/bin/qwenctl"
# The guide knows the answer, which has the word in it.
QUESTION = "What is qwend?"
# May use the socket; may not; has a home, and a daemon of their own.
MEMBER, OUTSIDER, OWNER = "member", "outsider", "owner"
OWNER_HOME = "/home/owner"
_PEOPLE = f"""
u {MEMBER} - "in the group"
m {MEMBER} qwend
u {OUTSIDER} - "not in the group"
u {OWNER} - "has a home" {OWNER_HOME}
"""


def qwend_disk(
    installed: Installation,
    over_sys: Path,
    *,
    config: str = "",
    service: str = "",
    governor: str = "powersave",
    etc: Mapping[str, str] | None = None,
    binds: Sequence[tuple[Path, Path]] = (),
) -> Disk:
    """config: of qwend.toml. service: a drop-in for qwend.service. governor: of the fake CPUs.

    The units are those of this tree, every line of their hardening in force.
    """
    units = (path for path in UNITS.iterdir() if path.is_file())
    files = {f"systemd/system/{unit.name}": unit.read_text() for unit in units}
    files["systemd/user/qwend.service"] = (UNITS / "user" / "qwend.service").read_text()
    files |= {
        f"{kind}/qwend.conf": (UNITS / kind / "qwend.conf").read_text()
        for kind in ("sysusers.d", "tmpfiles.d")
    }
    files["sysusers.d/zz-people.conf"] = _PEOPLE
    # As `systemctl enable` leaves it, but for the service: tests start that themselves.
    files["systemd/system/sockets.target.d/qwend.conf"] = (
        "[Unit]\nWants=qwend.socket qwend-pull.socket\n"
    )
    if config:
        files["qwend/qwend.toml"] = config
    if service:
        files["systemd/system/qwend.service.d/test.conf"] = service
    write_fake_cpu(over_sys / "cpu", governor, os.cpu_count() or 1)
    return Disk(
        etc=files | dict(etc or {}),
        binds=(*installed.binds, *binds),
        over_sys={"cpu": over_sys / "cpu"},
    )
