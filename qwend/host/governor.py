"""The CPU frequency governor: changed on request, and always put back.

Rule 1: what was before is on disk, durably, before the first change; the record is the undo.
Rule 2: a machine that refuses is no error: each refusal becomes a reason in words, and the rest
goes on. This file does not know when to change or restore, nor how often to try.

Source: Documentation/admin-guide/pm/cpufreq.rst: one policyN for the CPUs that share a clock;
scaling_governor takes a name out of scaling_available_governors.

The record, as an interval: it exists from before the first write until every policy is back.
`ours` holds each name we ever set since, so that a governor somebody else chose is left alone.
A record of an earlier boot is void: the kernel has begun again with its own governors.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qwend.errors import HostError
from qwend.host.private_dir import private_directory, read_file, replace_file
from qwend.host.root import HostRoot

POLICIES = "/sys/devices/system/cpu/cpufreq"
BOOT_ID = "/proc/sys/kernel/random/boot_id"  # random(4)
_RECORD_LIMIT_BYTES = 65_536
_POLICY = re.compile(r"policy[0-9]{1,5}")
_GOVERNOR = re.compile(r"[a-z_]{1,15}")


@dataclass(frozen=True, slots=True)
class GovernorResult:
    """changed: the policies that now have another governor. reasons: what did not work, and why."""

    changed: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Record:
    boot: str
    previous: dict[str, str] = field(default_factory=dict)
    ours: tuple[str, ...] = ()


def set_governor(root: HostRoot, wanted: str, record: Path) -> GovernorResult:
    """Set `wanted` on every policy that offers it; call `restore` with the same record to undo.

    record: a file in a directory of ours. One left by a run that was killed is kept, for it
    knows the values from before that run.
    """
    current, reasons = _read_policies(root, wanted)
    pending = [policy for policy, governor in current.items() if governor != wanted]
    if not pending:
        return GovernorResult((), tuple(reasons))
    try:
        known = _load(root, record)
        previous = {policy: current[policy] for policy in pending} | known.previous
        ours = tuple(dict.fromkeys((*known.ours, wanted)))
        _store(record, _Record(known.boot, previous, ours))
    except HostError as error:
        return GovernorResult((), (*reasons, f"governor: nothing changed, {error}"))
    return _write_all(root, dict.fromkeys(pending, wanted), reasons)


def restore(root: HostRoot, record: Path) -> GovernorResult:
    """Put back what the record holds and remove it; without a record there is nothing to do.

    The record stays as long as a policy could not be put back, so that a later call can.
    """
    reasons: list[str] = []
    try:
        known = _load(root, record)
    except HostError as error:
        return GovernorResult((), (f"governor: nothing restored, {error}",))
    pending: dict[str, str] = {}
    for policy, previous in known.previous.items():
        path = f"{POLICIES}/{policy}/scaling_governor"
        if not root.exists(path):
            reasons.append(f"governor: {policy} is gone")
            continue
        try:
            now = root.read_text(path).strip()
        except HostError as error:
            reasons.append(f"governor: {policy}: {error}")
            pending[policy] = previous
            continue
        if now in known.ours and now != previous:
            pending[policy] = previous
        elif now != previous:
            reasons.append(f"governor: {policy}: left at {now!r}, which somebody else has set")
    result = _write_all(root, pending, reasons)
    if len(result.changed) == len(pending):
        return _forget(record, result)
    return result


def _read_policies(root: HostRoot, wanted: str) -> tuple[dict[str, str], list[str]]:
    current: dict[str, str] = {}
    reasons: list[str] = []
    paths = root.glob(f"{POLICIES}/policy*/scaling_governor")
    if not paths:
        reasons.append(f"governor: this machine has none ({POLICIES} has no policy)")
    for path in paths:
        policy = path.split("/")[-2]
        try:
            current[policy] = root.read_text(path).strip()
            offered = root.read_text(f"{POLICIES}/{policy}/scaling_available_governors").split()
        except HostError as error:
            current.pop(policy, None)
            reasons.append(f"governor: {policy}: {error}")
            continue
        if wanted not in offered:
            del current[policy]
            reasons.append(f"governor: {policy} offers {', '.join(offered)}, not {wanted!r}")
    return current, reasons


def _write_all(root: HostRoot, wanted: dict[str, str], reasons: list[str]) -> GovernorResult:
    changed: list[str] = []
    for policy, governor in wanted.items():
        path = f"{POLICIES}/{policy}/scaling_governor"
        try:
            root.write_text(path, governor)
            # Some drivers take the write and keep their own mind.
            now = root.read_text(path).strip()
        except HostError as error:
            reasons.append(f"governor: {policy}: {error}")
            continue
        if now == governor:
            changed.append(policy)
        else:
            reasons.append(f"governor: {policy} took {governor!r} but reads back {now!r}")
    return GovernorResult(tuple(changed), tuple(reasons))


def _load(root: HostRoot, record: Path) -> _Record:
    doing = "reading the record of governors"
    # Without the id two boots cannot be told apart, and the record is taken as of this one.
    boot = root.read_text(BOOT_ID).strip() if root.exists(BOOT_ID) else ""
    if not os.path.lexists(record):
        return _Record(boot)
    try:
        with private_directory(record.parent, tighten=False) as directory:
            data = json.loads(read_file(directory, record.name, _RECORD_LIMIT_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise HostError(str(record), doing, f"{error}; remove it") from error
    if isinstance(data, dict) and data.get("boot", boot) != boot:
        return _Record(boot)
    previous = data.get("previous") if isinstance(data, dict) else None
    ours = data.get("ours") if isinstance(data, dict) else None
    # What stands here is written below /sys: nothing but names may come from it.
    if (
        not isinstance(previous, dict)
        or not isinstance(ours, list)
        or not all(_POLICY.fullmatch(policy) for policy in previous)
        or not all(
            isinstance(name, str) and _GOVERNOR.fullmatch(name)
            for name in (*previous.values(), *ours)
        )
    ):
        raise HostError(str(record), doing, "it is not such a record; remove it")
    return _Record(boot, previous, tuple(ours))


def _forget(record: Path, result: GovernorResult) -> GovernorResult:
    try:
        record.unlink(missing_ok=True)
    except OSError as error:
        return GovernorResult(result.changed, (*result.reasons, f"governor: {error}"))
    return result


def _store(record: Path, content: _Record) -> None:
    text = json.dumps(asdict(content)) + "\n"
    try:
        with private_directory(record.parent, tighten=False) as directory:
            replace_file(directory, record.name, text.encode(), mode=0o600, durable=True)
    except OSError as error:
        raise HostError(str(record), "writing the record of governors", error) from error
