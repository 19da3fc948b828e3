"""Taking qwend off the machine again: all of it but the models.

Rule 1: models are kept unless their owner says otherwise; without a terminal nobody is asked.
Rule 2: only what an installation has made is removed; a prefix may hold other things.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from pathlib import Path

from actions import Actions
from model import STORE, installed_files, installed_names
from release import COMMANDS
from target import Target
from units import Systemd, Unit, drop_ins

USER = "qwend"


def uninstall(
    target: Target,
    systemd: Systemd,
    units: list[Unit],
    settings: list[Unit],
    actions: Actions,
    *,
    purge: bool,
) -> None:
    """Stop the daemon and remove what belongs to it. Raises: Problem."""
    models = installed_files(target) if _may_read(target.models) else []
    purge = purge or _is_told_to_remove(target, models, actions)

    there = [unit for unit in units if unit.place.exists()]
    systemd.stop(there)
    removed = [actions.remove(path) for path in (*_places(there), *drop_ins(units))]
    systemd.forget()
    actions.say("service", "stopped and removed" if any(removed) else "there was none")

    for name in COMMANDS:
        link = target.bin / name
        if link.is_symlink() and os.readlink(link) == str(target.prefix / "bin" / name):
            actions.remove(link)
        actions.remove(target.prefix / "bin" / name)
    actions.remove(target.current)
    for venv in sorted(target.prefix.glob("venv-*")):
        actions.remove(venv)
    for directory in (target.prefix / "bin", target.prefix):
        actions.remove_if_empty(directory)
    actions.say("qwend", f"removed from {target.prefix}")

    for path in (*_places(settings), target.config.parent, target.runtime, target.host_state):
        if path is not None:
            actions.remove(path)
    _remove_state(target, actions, keep_models=not purge)
    actions.say("settings", f"removed: {target.config.parent}, {target.state}")
    if models:
        actions.say("models", "removed" if purge else f"kept in {target.models}")
    if not target.user:
        _remove_user(target, models_stay=bool(models) and not purge, actions=actions)


def _is_told_to_remove(target: Target, models: list[Path], actions: Actions) -> bool:
    if not models or actions.dry or not sys.stdin.isatty():
        return False
    megabytes = sum(file.stat().st_size for file in models) / 10**6
    names = ", ".join(installed_names(target))
    answer = input(
        f"Remove the models in {target.models} too ({names}; {megabytes:,.0f} MB)? [y/N] "
    )
    return answer.strip().lower() in ("y", "yes")


def _remove_state(target: Target, actions: Actions, *, keep_models: bool) -> None:
    for path in sorted(target.state.iterdir()) if target.state.is_dir() else ():
        if path != target.models:
            actions.remove(path)
    # A store whose last model was removed still has its directories.
    others = [path for path in target.models.glob("*") if path.name != STORE]
    if not keep_models or not (others or installed_files(target)):
        actions.remove(target.models)
    for directory in (target.state, target.models.parent):
        actions.remove_if_empty(directory)


def _remove_user(target: Target, *, models_stay: bool, actions: Actions) -> None:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return
    if models_stay:
        # The number of a removed user may be given to another one day.
        actions.call("chown", "-R", "root:root", target.state)
    if shutil.which("userdel") is not None:
        actions.call("userdel", USER)  # and the group of that name with it
        actions.say("user", f"{USER} removed, with the group")


def _places(units: list[Unit]) -> list[Path]:
    return [unit.place for unit in units]


def _may_read(directory: Path) -> bool:
    return directory.is_dir() and os.access(directory, os.R_OK | os.X_OK)
