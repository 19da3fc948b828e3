"""What the governors were before us, on disk: the undo of every change to them.

Rule 1: the record is durable before the first change and stays until all is put back, so that the
next run can undo what one left that was killed, or whose power was cut.
Rule 2: nothing but names of policies, knobs and values comes out of it, for these are written
below /sys by root.
Rule 3: this file does not know when to set or to restore.

It says which boot it is of. Within that boot, a value that is neither ours nor the one before was
set by somebody else. After a reboot the kernel has begun again, and only what still reads as we
set it is ours to put back.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwend import failpoint
from qwend.errors import HostError
from qwend.host.cpufreq import Knob
from qwend.host.private_dir import private_directory, read_file, replace_file
from qwend.host.root import HostRoot

BOOT_ID = "/proc/sys/kernel/random/boot_id"  # random(4)
_LIMIT_BYTES = 262_144  # some 100 bytes for each of at most a few thousand policies
_POLICY = re.compile(r"policy[0-9]{1,5}")
# Names of governors and preferences; some kernels' governors have digits, and a preference that has
# no name reads as the number it is (0 to 255).
_VALUE = re.compile(r"[A-Za-z0-9_-]{1,31}")


@dataclass(frozen=True, slots=True)
class Record:
    """previous: policy -> knob -> value before us. ours: each value that we set since, of either
    knob: the governor `performance` sets the preference to `performance` too."""

    boot: str
    previous: dict[str, dict[Knob, str]] = field(default_factory=dict)
    ours: tuple[str, ...] = ()


def load_record(root: HostRoot, path: Path) -> Record:
    """Return the record, an empty one of this boot if there is none. Raises: HostError."""
    if not os.path.lexists(path):
        return Record(this_boot(root))
    doing = "reading the record of governors"
    try:
        with private_directory(path.parent, tighten=False) as directory:
            return _checked(json.loads(read_file(directory, path.name, _LIMIT_BYTES)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise HostError(str(path), doing, f"{error}; remove it") from error


def store_record(path: Path, record: Record) -> None:
    """Put it on disk; it is there after a power cut once this returns. Raises: HostError."""
    content = {"boot": record.boot, "previous": record.previous, "ours": record.ours}
    try:
        with private_directory(path.parent, tighten=False) as directory:
            data = json.dumps(content).encode() + b"\n"
            failpoint.reach("governor_record.write")
            replace_file(directory, path.name, data, mode=0o600, durable=True)
    except OSError as error:
        raise HostError(str(path), "writing the record of governors", error) from error


def drop_record(path: Path) -> None:
    """All is put back. Raises: HostError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(str(path), "removing the record of governors", error) from error


def this_boot(root: HostRoot) -> str:
    """The id of this boot; empty where the kernel does not say, which then matches itself."""
    try:
        return root.read_text(BOOT_ID).strip()
    except HostError:
        return ""


def _checked(data: Any) -> Record:
    """Raises: ValueError, KeyError, TypeError or AttributeError for anything but a record."""
    previous = {
        _matching(_POLICY, policy): {Knob(k): _matching(_VALUE, v) for k, v in knobs.items()}
        for policy, knobs in data["previous"].items()
    }
    ours = tuple(_matching(_VALUE, value) for value in data["ours"])
    return Record(str(data["boot"]), previous, ours)


def _matching(pattern: re.Pattern[str], text: Any) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no name")
    return text
