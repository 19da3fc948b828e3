"""systemd's part: the unit files of the clone, put in place and taken away.

Rule 1: a file is the clone's text with the prefix filled in; what the owner of the machine wants
otherwise stands in drop-ins (`systemctl edit qwend`), which are never touched by an upgrade.
Rule 2: this file does not know what the units do.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from actions import Actions
from problem import Problem
from target import SYSTEM_PREFIX, Target

SERVICE = "qwend.service"
# Loading a model from a slow card; TimeoutStartSec of the unit ends it before.
_LOADING = "loading the model"


@dataclass(frozen=True, slots=True)
class Unit:
    """source: in the clone. place: where it goes."""

    source: Path
    place: Path

    @property
    def wants_enabling(self) -> bool:
        """It says so itself, with an [Install] section."""
        return "\n[Install]" in self.source.read_text(encoding="utf-8")


def unit_files(root: Path, target: Target) -> list[Unit]:
    folder = root / "systemd" / "user" if target.user else root / "systemd"
    return [Unit(file, target.units / file.name) for file in sorted(folder.glob("qwend*.*"))] + [
        Unit(file, target.units / file.name) for file in sorted(folder.glob("run-*.mount"))
    ]


def settings_files(root: Path, target: Target) -> list[Unit]:
    """What systemd-sysusers and systemd-tmpfiles read."""
    return [
        Unit(file, place / file.name)
        for name, place in (("sysusers.d", target.sysusers), ("tmpfiles.d", target.tmpfiles))
        if place is not None
        for file in sorted((root / "systemd" / name).glob("*.conf"))
    ]


def place(files: list[Unit], target: Target, actions: Actions) -> list[str]:
    """Write the files; return the names of those that were other, or not there."""
    changed = []
    for unit in files:
        text = unit.source.read_text(encoding="utf-8")
        if actions.write(unit.place, text.replace(f"{SYSTEM_PREFIX}/", f"{target.prefix}/")):
            changed.append(unit.place.name)
    return changed


def make_user_and_directories(files: list[Unit], actions: Actions) -> None:
    for unit in files:
        command = ["systemd-sysusers"]
        if unit.place.parent.name == "tmpfiles.d":
            command = ["systemd-tmpfiles", "--create"]
        if shutil.which(command[0]) is not None:
            actions.call(*command, unit.place)


class Systemd:
    """The manager of the target, as far as there is one."""

    def __init__(self, target: Target, actions: Actions) -> None:
        self._command = ["systemctl", *(["--user"] if target.user else [])]
        self._journal = ["journalctl", *(["--user"] if target.user else [])]
        self._actions = actions
        self.is_installed = shutil.which("systemctl") is not None
        self.is_running = self.is_installed and (
            self._asks("show-environment") if target.user else Path("/run/systemd/system").is_dir()
        )

    def reload(self) -> None:
        if self.is_running:
            self._actions.call(*self._command, "daemon-reload")

    def enable(self, names: list[str]) -> bool:
        """Enable what is not; True if something was not. It works without a running systemd."""
        pending = [name for name in names if not self._asks("is-enabled", "--quiet", name)]
        if pending and self.is_installed:
            self._actions.call(*self._command, "enable", *pending)
        return bool(pending)

    def start(self, names: list[str], log: Path, *, renew: bool) -> str:
        """Start what does not run; let the service begin again if `renew`. Return what was done.

        Raises: Problem with the last lines of the service's log.
        """
        pending = [name for name in names if not self._asks("is-active", "--quiet", name)]
        try:
            if SERVICE not in pending and renew:
                # Not stop and start: over a restart systemd keeps the connections of clients.
                self._actions.run(_LOADING, log, *self._command, "restart", SERVICE)
            if pending:
                self._actions.run(_LOADING, log, *self._command, "start", *pending)
        except Problem as problem:
            raise Problem(f"{problem}\n{self.log()}") from None
        if SERVICE in pending:
            return "started"
        return "restarted; its clients stay connected" if renew else "runs, as before"

    def stop(self, units: list[Unit]) -> None:
        # Of a template, all that run: it has no name of its own to be stopped by.
        names = [unit.place.name.replace("@.", "@*.") for unit in units]
        enabled = [unit.place.name for unit in units if unit.wants_enabling]
        if self.is_installed and enabled:
            self._actions.call(*self._command, "disable", *enabled)
        if self.is_running and names:
            self._actions.call(*self._command, "stop", *names)

    def forget(self) -> None:
        """Drop what it remembers of units that are gone."""
        if self.is_running:
            self.reload()
            self._asks("reset-failed", "qwend*")

    def log(self) -> str:
        """The service's last lines, as far as the journal has them."""
        # What a service says last may still be on its way when systemd tells that it has ended.
        _output(["journalctl", "--sync"])
        command = [*self._journal, "-u", SERVICE, "-n", "15", "--no-pager", "-o", "cat"]
        lines = _output(command).splitlines()
        return "\n".join(
            ["The log of the service ends with:", *(f"  | {each}" for each in lines)]
            if lines
            else [f"See: {' '.join(self._journal)} -u qwend"]
        )

    def _asks(self, *arguments: str) -> bool:
        if not shutil.which("systemctl"):
            return False
        asked = [*self._command, *arguments]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def drop_ins(files: list[Unit]) -> Iterator[Path]:
    for unit in files:
        yield unit.place.with_name(f"{unit.place.name}.d")


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
