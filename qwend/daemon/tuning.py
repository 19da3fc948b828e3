"""Tuning the machine for the model: which CPUs, how many threads, which governor.

Owns the order and the undo; how each is done is `qwend.host`'s. Nothing here is fatal: what the
machine refuses becomes a reason that `status` shows, with the command that would mend it.

As a service qwend may not write to /sys: qwend-host.service has set the governor before, and here
it is only looked at.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qwend.config import Config
from qwend.daemon.plan_watch import PlanWatch
from qwend.host.governor import Outcome, apply, restore, wish_for
from qwend.host.root import HostRoot
from qwend.host.thread_plan import ThreadPlan
from qwend.paths import Mode, Paths

log = logging.getLogger(__name__)

GOVERNOR_RECORD = "governor.json"


@dataclass(frozen=True, slots=True)
class Tuning:
    """watch: has the plan of the engine's threads. degraded: what the machine refused, in words."""

    watch: PlanWatch
    degraded: tuple[str, ...]

    @property
    def plan(self) -> ThreadPlan:
        return self.watch.plan


def tune(config: Config, host: HostRoot, paths: Paths, undo: ExitStack) -> Tuning:
    """Plan the threads and set the governor; what was changed is put back by `undo`."""
    return Tuning(PlanWatch(config, host), tuple(_govern(config, host, paths, undo)))


def _govern(config: Config, host: HostRoot, paths: Paths, undo: ExitStack) -> Iterator[str]:
    record = paths.state / GOVERNOR_RECORD
    wish = wish_for(config.host.governor, config.host.energy_preference)
    # A record that is there now was left by a run that could not put things back.
    yield from _told(restore(host, record))
    if wish:
        undo.callback(_put_back, host, record)
        outcome = apply(host, wish, record)
        yield from _told(outcome)
        if outcome.needs_root:
            yield f"to mend the governor: {_remedy(config, paths)}"


def _put_back(host: HostRoot, record: Path) -> None:
    for refused in _told(restore(host, record)):
        log.warning("%s", refused)


def _told(outcome: Outcome) -> Iterator[str]:
    for change in outcome.changes:
        log.info("%s: %s %s -> %s", change.policy, change.knob, change.before, change.now)
    for remark in outcome.remarks:
        log.info("%s", remark)
    yield from outcome.refused


def _remedy(config: Config, paths: Paths) -> str:
    """What root has to run. The system's settings are found by it, a user's have to be given."""
    if paths.mode is Mode.SYSTEM:
        return "sudo systemctl restart qwend-host qwend"
    words = ["sudo", str(Path(sys.executable).with_name("qwend")), "host", "apply"]
    for option, value in (
        ("--governor", config.host.governor),
        ("--energy-preference", config.host.energy_preference),
    ):
        words += [option, value] if value else []
    return f"{' '.join(words)}; then restart qwend"
