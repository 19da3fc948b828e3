"""Where each part of an installation goes: of the machine, or of one user.

Rule 1: every path outside the prefix is decided here.
Rule 2: this file creates nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from problem import Problem

SYSTEM_PREFIX = Path("/opt/qwend")
# systemd reads spaces, quotes, % and \ in a unit as more than themselves.
_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
# What the units hide from the service: ProtectHome= and PrivateTmp= in qwend.service.
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


@dataclass(frozen=True, slots=True)
class Target:
    """bin: where commands are linked. config: the file; the others are directories.

    sysusers, tmpfiles, host_state (of qwend-host.service): None for one user, who has none.
    """

    user: bool
    prefix: Path
    bin: Path
    units: Path
    config: Path
    state: Path
    models: Path
    runtime: Path
    sysusers: Path | None = None
    tmpfiles: Path | None = None
    host_state: Path | None = None

    @property
    def socket(self) -> Path:
        return self.runtime / "qwend.sock"

    @property
    def current(self) -> Path:
        """A link to the virtual environment that runs."""
        return self.prefix / "current"


def system_target(prefix: Path | None) -> Target:
    """The machine's. Raises: Problem for a prefix that the service could not be started from."""
    units = Path("/etc/systemd/system")
    chosen = _prefix(prefix, units, SYSTEM_PREFIX)
    for hidden in _HIDDEN:
        if chosen.is_relative_to(hidden):
            raise Problem(
                f"The service cannot see what is below {hidden}; take a --prefix elsewhere, "
                f"such as {SYSTEM_PREFIX}"
            )
    return Target(
        user=False,
        prefix=chosen,
        bin=Path("/usr/local/bin"),
        units=units,
        config=Path("/etc/qwend/qwend.toml"),
        state=Path("/var/lib/qwend"),
        models=Path("/var/lib/qwend/models"),
        runtime=Path("/run/qwend"),
        sysusers=Path("/etc/sysusers.d"),
        tmpfiles=Path("/etc/tmpfiles.d"),
        host_state=Path("/var/lib/qwend-host"),
    )


def user_target(prefix: Path | None, environ: Mapping[str, str], uid: int) -> Target:
    """One user's; the paths are those of qwend/paths.py. Raises: Problem without a home."""
    if uid == 0:
        raise Problem("--user is for one user without root: run it as that user, without sudo")
    home = Path(environ.get("HOME", ""))
    if not home.is_absolute() or not home.is_dir():
        raise Problem("HOME is not set to a directory, so there is no place for your files")

    def xdg(name: str, below_home: str) -> Path:
        named = environ.get(name, "")
        return Path(named) if named.startswith("/") else home / below_home

    units = xdg("XDG_CONFIG_HOME", ".config") / "systemd" / "user"
    return Target(
        user=True,
        prefix=_prefix(prefix, units, home / ".local" / "lib" / "qwend"),
        bin=home / ".local" / "bin",
        units=units,
        config=xdg("XDG_CONFIG_HOME", ".config") / "qwend" / "qwend.toml",
        state=xdg("XDG_STATE_HOME", ".local/state") / "qwend",
        models=xdg("XDG_DATA_HOME", ".local/share") / "qwend" / "models",
        runtime=xdg("XDG_RUNTIME_DIR", f"/run/user/{uid}") / "qwend",
    )


def _prefix(given: Path | None, units: Path, default: Path) -> Path:
    """The prefix that is asked for, else that of what is installed, else the default."""
    installed = _installed_prefix(units / "qwend.service")
    chosen = Path(os.path.abspath(given)) if given else installed or default
    if installed and chosen != installed:
        raise Problem(
            f"qwend is installed in {installed}. Leave out --prefix to upgrade it there, or "
            "move it:\n  scripts/install --uninstall, then scripts/install --prefix ..."
        )
    if not _PLAIN.fullmatch(str(chosen)):
        raise Problem(f"systemd cannot start what is in {str(chosen)!r}; take a plainer --prefix")
    return chosen


def _installed_prefix(unit: Path) -> Path | None:
    try:
        found = re.search(r"^ExecStart=(/\S+)/bin/qwend\s", unit.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return Path(found[1]) if found else None
