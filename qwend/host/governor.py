"""The CPU frequency governor and the energy preference: changed on request, and always put back.

Rule 1: what was before is on disk, durably, before the first change (`governor_record`).
Rule 2: a machine that refuses is no error: each refusal becomes words, and the rest goes on.
Rule 3: this file does not know when to change or restore, nor how often to try.

The governor goes first, both ways: `performance` of intel_pstate and amd-pstate holds the energy
preference at `performance` while it is set, and takes no other (see `cpufreq`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qwend.errors import HostError
from qwend.host.cpu import format_cpu_list
from qwend.host.cpufreq import (
    PERFORMANCE,
    Knob,
    Policy,
    has_knob,
    may_write,
    read_knob,
    read_policies,
    write_knob,
)
from qwend.host.governor_record import (
    Record,
    drop_record,
    load_record,
    store_record,
    this_boot,
)
from qwend.host.root import HostRoot

Wish = dict[Knob, str]

NO_SCALING = "this machine has no frequency scaling (cpufreq)"


@dataclass(frozen=True, slots=True)
class Change:
    policy: str
    knob: Knob
    before: str
    now: str


@dataclass(slots=True)
class Outcome:
    """changes: in the order they were made. refusals: why something that was asked for is not so
    -> the policies where; none: all. strangers: a value that somebody else has set, and was left.

    needs_root: it was refused because this process may not write there.
    """

    changes: list[Change] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)
    strangers: dict[str, list[str]] = field(default_factory=dict)
    needs_root: bool = False

    @property
    def refused(self) -> tuple[str, ...]:
        """In words; what is the same on several policies is said once."""
        return tuple(_sentence(why, names) for why, names in self.refusals.items())

    @property
    def remarks(self) -> tuple[str, ...]:
        return tuple(_sentence(what, names) for what, names in self.strangers.items())

    def refuse(self, why: str, *policies: str) -> None:
        self.refusals.setdefault(why, []).extend(policies)


def wish_for(governor: str, preference: str) -> Wish:
    """The settings as a wish; an empty text wishes nothing."""
    asked = {Knob.GOVERNOR: governor, Knob.PREFERENCE: preference}
    return {knob: value for knob, value in asked.items() if value}


def apply(root: HostRoot, wish: Wish, record: Path) -> Outcome:
    """Set what is wished on every policy that offers it; `restore` with the same record undoes.

    record: a file in a directory of ours. What it holds from a run that was killed stays in it,
    for that run knew the values from before.
    """
    outcome = Outcome()
    policies = read_policies(root)
    if wish and not policies:
        outcome.refuse(NO_SCALING)
    pending = _pending(policies, wish, outcome)
    for knob, changing in pending.items():
        if not may_write(root, (policy.name for policy in changing), knob):
            outcome.needs_root = True
            for policy in changing:
                now, wanted = policy.now[knob], wish[knob]
                why = f"{knob} is {now!r}, not {wanted!r}, and only root may change it"
                outcome.refuse(why, policy.name)
    if outcome.needs_root or not any(pending.values()):
        return outcome
    try:
        store_record(record, _recorded(root, record, pending, wish))
    except HostError as error:
        outcome.refuse(f"nothing was changed: {error}")
        return outcome
    for knob, changing in pending.items():
        _write(root, knob, {policy.name: wish[knob] for policy in changing}, outcome)
    return outcome


def restore(root: HostRoot, record: Path) -> Outcome:
    """Put back what the record holds and remove it; without a record there is nothing to do.

    The record stays as long as something could not be put back, so that a later call can.
    """
    outcome = Outcome()
    try:
        known = load_record(root, record)
        for knob in Knob:
            _write(root, knob, _to_put_back(root, known, knob, outcome), outcome)
        if not outcome.refusals:
            drop_record(record)
    except HostError as error:
        outcome.refuse(str(error))
    return outcome


def _pending(policies: Iterable[Policy], wish: Wish, outcome: Outcome) -> dict[Knob, list[Policy]]:
    """The policies on which each knob has to be changed; tells `outcome` why not on others."""
    pending: dict[Knob, list[Policy]] = {knob: [] for knob in Knob if knob in wish}
    for knob, changing in pending.items():
        for policy in policies:
            why = _why_not(policy, knob, wish)
            if why:
                outcome.refuse(why, policy.name)
            elif policy.now[knob] != wish[knob] or policy in pending.get(Knob.GOVERNOR, ()):
                # What the preference reads now need not be what it reads with another governor.
                changing.append(policy)
    return pending


def _why_not(policy: Policy, knob: Knob, wish: Wish) -> str:
    if knob not in policy.now:
        return f"there is no {knob}"
    offered = policy.offered[knob]
    if wish[knob] not in offered:
        return f"{knob} can be {', '.join(offered) or 'nothing'}, not {wish[knob]!r}"
    governor = wish.get(Knob.GOVERNOR, policy.now.get(Knob.GOVERNOR))
    if knob is Knob.PREFERENCE and governor == PERFORMANCE != wish[knob]:
        return f"{knob} stays {PERFORMANCE!r} as long as the governor is {PERFORMANCE!r}"
    return ""


def _recorded(
    root: HostRoot, path: Path, pending: Mapping[Knob, list[Policy]], wish: Wish
) -> Record:
    """The record, with what is about to change added to it. Raises: HostError."""
    known = load_record(root, path)
    if known.boot != this_boot(root):
        known = _what_still_reads_as_ours(root, known)
    previous = {policy: dict(knobs) for policy, knobs in known.previous.items()}
    for knob, changing in pending.items():
        # A governor may change the preference too.
        at_risk = tuple(Knob) if knob is Knob.GOVERNOR else (knob,)
        for policy in changing:
            now = {each: value for each, value in policy.now.items() if each in at_risk}
            previous[policy.name] = now | previous.get(policy.name, {})
    ours = tuple(dict.fromkeys((*known.ours, *wish.values())))
    return Record(this_boot(root), previous, ours)


def _what_still_reads_as_ours(root: HostRoot, known: Record) -> Record:
    outcome = Outcome()
    previous: dict[str, dict[Knob, str]] = {}
    for knob in Knob:
        for policy, value in _to_put_back(root, known, knob, outcome).items():
            previous.setdefault(policy, {})[knob] = value
    return Record(known.boot, previous, known.ours)


def _to_put_back(root: HostRoot, known: Record, knob: Knob, outcome: Outcome) -> dict[str, str]:
    """policy -> value, where the knob still reads as we set it."""
    back: dict[str, str] = {}
    same_boot = known.boot == this_boot(root)
    for policy, knobs in known.previous.items():
        previous = knobs.get(knob)
        if previous is None:
            continue
        if not has_knob(root, policy, knob):
            outcome.strangers.setdefault(f"{knob} is gone", []).append(policy)
            continue
        try:
            now = read_knob(root, policy, knob)
        except HostError as error:
            outcome.refuse(_without_path(error, knob), policy)
            continue
        if now in known.ours and now != previous:
            back[policy] = previous
        elif now != previous and same_boot:
            left = f"{knob} is left at {now!r}, which somebody else has set"
            outcome.strangers.setdefault(left, []).append(policy)
    return back


def _write(root: HostRoot, knob: Knob, wanted: dict[str, str], outcome: Outcome) -> None:
    for policy, value in wanted.items():
        try:
            before = read_knob(root, policy, knob)
            if before != value:
                write_knob(root, policy, knob, value)
                outcome.changes.append(Change(policy, knob, before, value))
        except HostError as error:
            outcome.refuse(_without_path(error, knob), policy)


def _without_path(error: HostError, knob: Knob) -> str:
    """So that the same refusal of several policies is one sentence."""
    return f"{error.doing} {knob}: {error.cause}"


def _sentence(what: str, policies: Iterable[str]) -> str:
    numbers = frozenset(int(name.removeprefix("policy")) for name in policies)
    if not numbers:
        return what
    return f"{'policy' if len(numbers) == 1 else 'policies'} {format_cpu_list(numbers)}: {what}"
