"""The energy that the machine takes, in joules, where something in it counts or measures that.

Rule 1: counters before meters, and the whole package always: no counter knows whose work it was.
Rule 2: this file does not know who wants to know, and has no clock of its own.

Sources: Documentation/power/powercap/powercap.rst (energy_uj begins again at 0 after
max_energy_range_uj; since Linux 5.10 root alone may read it, for CVE-2020-8694),
Documentation/hwmon/sysfs-interface.rst (energyN_input in microjoules, powerN_input and
powerN_average in microwatts).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.root import HostRoot

RAPL = "/sys/class/powercap/intel-rapl:*/name"  # AMD's have this name too
HWMON = "/sys/class/hwmon/hwmon*/name"
# Domains within a package, and "psys" around it, would count the same joules twice.
_PACKAGE = re.compile(r"package-\d+")
_SOCKET_COUNTER = "Esocket"  # amd_energy counts cores beside sockets, by label
# Meters of a whole board: ACPI's, and the shunt monitors that boards have on their supply. Others
# in hwmon measure graphics cards and disks.
_BOARD_METER = re.compile(r"power_meter|ina\d+")
# Far above what the machines we are for can take. A counter that begins again for another reason
# than its range, as after a suspend, looks like more.
MOST_WATTS = 1_000.0
# A counter moves in steps: over a short time that may look like any power.
STEP_J = 10.0


@dataclass(slots=True)
class Counter:
    """range_j: where it begins again at 0; None: never."""

    path: str
    range_j: float | None
    last_j: float


class EnergyCounters:
    """Joules that all counters together have counted since this was made.

    source: where they are counted, for people; empty without counters. problem: why there are
    none, where there would be.
    """

    def __init__(self, root: HostRoot, now: float) -> None:
        """now: monotonic seconds."""
        self._root = root
        self._read_at = now
        self._joules = 0.0
        self.problem = ""
        self._counters = self._find(_rapl(root)) or self._find(_sockets(root))
        self.source = self._counters[0].path.rsplit("/", 1)[0] if self._counters else ""

    def joules(self, now: float) -> float:
        """Read the counters, which takes some ten microseconds. A failing one counts no further."""
        most = MOST_WATTS * (now - self._read_at) + STEP_J
        self._read_at = now
        for counter in self._counters:
            try:
                value = _joules(self._root, counter.path)
            except HostError as error:
                self.problem = str(error)
                continue
            grown = value - counter.last_j
            if grown < 0 and counter.range_j is not None:
                grown += counter.range_j
            counter.last_j = value
            if 0 <= grown <= most:
                self._joules += grown
        return self._joules

    def _find(self, found: list[tuple[str, float | None]]) -> list[Counter]:
        counters = []
        for path, range_j in found:
            try:
                counters.append(Counter(path, range_j, _joules(self._root, path)))
            except HostError as error:
                # Without one of the packages the sum would be a figure of nothing.
                self.problem = str(error)
                return []
        return counters


def board_watts(root: HostRoot) -> float | None:
    """Return what a meter of the whole board says now, None where there is none."""
    for name in root.glob(HWMON):
        if _BOARD_METER.fullmatch(_text(root, name)):
            for kind in ("power1_average", "power1_input"):
                microwatts = _text(root, name.removesuffix("name") + kind)
                if microwatts.isdecimal():
                    return int(microwatts) / 1e6
    return None


def _rapl(root: HostRoot) -> list[tuple[str, float | None]]:
    found = []
    for name in root.glob(RAPL):
        if _PACKAGE.fullmatch(_text(root, name)):
            zone = name.removesuffix("name")
            # As unreadable as the counter itself since 5.10; without it no overflow can be told.
            range_uj = _text(root, f"{zone}max_energy_range_uj")
            found.append(
                (f"{zone}energy_uj", int(range_uj) / 1e6 if range_uj.isdecimal() else None)
            )
    return found


def _sockets(root: HostRoot) -> list[tuple[str, float | None]]:
    return [
        (label.removesuffix("label") + "input", None)
        for name in root.glob(HWMON)
        if _text(root, name) == "amd_energy"
        for label in root.glob(name.removesuffix("name") + "energy*_label")
        if _text(root, label).startswith(_SOCKET_COUNTER)
    ]


def _joules(root: HostRoot, path: str) -> float:
    text = root.read_text(path).strip()
    if not text.isdecimal():
        raise HostError(path, "reading", f"{text[:20]!r} is no number of microjoules")
    return int(text) / 1e6


def _text(root: HostRoot, path: str) -> str:
    try:
        return root.read_text(path).strip()
    except HostError:
        return ""
