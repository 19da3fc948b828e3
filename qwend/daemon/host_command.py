"""`qwend host apply` and `qwend host restore`: what needs root on this machine, and its undo.

Run by qwend-host.service before and after qwend, or by hand. Nothing but Python's own library is
loaded here, and nothing is left running.

The record of what was before is in a directory of root's own (/var/lib/qwend-host): in
/var/lib/qwend the service's user could choose what root writes. It is on the disk and not in /run,
so that what a power cut or SIGKILL left behind is put back at the next start, where it has
outlived that: not on real hardware, whose kernel begins with its own governor, but on a machine
that was only suspended or moved, and in a container whose /sys is the host's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from qwend.config import load_config
from qwend.errors import HostError
from qwend.host.cpu import format_cpu_list
from qwend.host.governor import NO_SCALING, Change, Outcome, Wish, apply, restore, wish_for
from qwend.host.governor_record import load_record
from qwend.host.root import HostRoot

STATE = Path("/var/lib/qwend-host")
RECORD = "governor.json"

# Exit codes. REFUSED: nothing is changed, so there is nothing to undo either.
DONE = 0
REFUSED = 1
WRONG_CONFIG = 2

Say = Callable[[str], None]


def record_path(environ: Mapping[str, str]) -> Path:
    """Where systemd gave the unit its StateDirectory=, else the same place by hand."""
    given = environ.get("STATE_DIRECTORY", "").split(":", 1)[0]
    return (Path(given) if given.startswith("/") else STATE) / RECORD


def wish_of(
    environ: Mapping[str, str], config_file: Path | None, governor: str, preference: str
) -> Wish:
    """What the command line asks for, else the configuration. Raises: ConfigError."""
    if governor or preference:
        return wish_for(governor, preference)
    host = load_config(config_file, environ).config.host
    return wish_for(host.governor, host.energy_preference)


def apply_settings(root: HostRoot, wish: Wish, record: Path, say: Say, warn: Say) -> int:
    """Set what is wished, after putting back what an earlier run left; returns the exit code.

    REFUSED only if nothing at all could be set: a unit that failed is not stopped later, and what
    was set must be put back.
    """
    left, done = restore(root, record), apply(root, wish, record)
    _tell(left, done, say, warn)
    if not wish:
        say("no governor and no energy preference are asked for under [host]")
    elif not done.refused and not _net(left, done):
        say("it is so already: " + ", ".join(f"{knob} {value}" for knob, value in wish.items()))
    refused = left.refusals | done.refusals
    # A machine that can set nothing is none that an operator could mend.
    if not refused or NO_SCALING in refused or _something_is_set(root, record):
        return DONE
    return REFUSED


def restore_settings(root: HostRoot, record: Path, say: Say, warn: Say) -> int:
    """Put back what the record holds; returns the exit code."""
    try:
        os.lstat(record)
    except FileNotFoundError:
        say("nothing to put back")
        return DONE
    except PermissionError:
        warn(f"only root may read {record}: run this with sudo")
        return REFUSED
    outcome = restore(root, record)
    _tell(outcome, Outcome(), say, warn)
    return REFUSED if outcome.refused else DONE


def _something_is_set(root: HostRoot, record: Path) -> bool:
    try:
        return bool(load_record(root, record).previous)
    except HostError:
        return False


def _tell(first: Outcome, second: Outcome, say: Say, warn: Say) -> None:
    for text, policies in _net(first, second).items():
        say(f"CPU clocks {format_cpu_list(frozenset(policies))}: {text}")
    for outcome in (first, second):
        for remark in outcome.remarks:
            say(remark)
        for refusal in outcome.refused:
            warn(refusal)
    if first.needs_root or second.needs_root:
        warn("run this as root, with sudo")


def _net(first: Outcome, second: Outcome) -> dict[str, list[int]]:
    """What both together have changed, in words -> the numbers of the policies."""
    ends: dict[tuple[str, str], Change] = {}
    for change in (*first.changes, *second.changes):
        key = (change.policy, change.knob)
        before = ends[key].before if key in ends else change.before
        ends[key] = Change(change.policy, change.knob, before, change.now)
    told: dict[str, list[int]] = {}
    for change in ends.values():
        if change.before != change.now:
            text = f"{change.knob} {change.before} -> {change.now}"
            told.setdefault(text, []).append(int(change.policy.removeprefix("policy")))
    return told
