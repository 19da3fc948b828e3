"""How hot the processor is, and where it begins to slow itself down.

Rule 1: the zones that measure the processor count, and of these the one nearest to its ceiling.
Rule 2: this file does not know what to do about heat.

Sources: Documentation/driver-api/thermal/sysfs-api.rst (temp and trip_point_N_temp are in
millidegrees Celsius), power_allocator.rst beside it, and the device trees of the boards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.root import HostRoot

ZONES = "/sys/class/thermal/thermal_zone*"
# A sensor that is off or broken says 0, -274000 or 2^31; no board computes outside this range.
_PLAUSIBLE_C = (-60.0, 200.0)
# x86_pkg_temp has two writable trip points that are 0 until somebody sets them.
_PLAUSIBLE_TRIP_C = (50.0, 150.0)
# What is throttled where no trip point says so. The firmware of a Raspberry Pi begins at 80 °C
# and tells the kernel nothing of it (its documentation, "Frequency management and thermal
# control"); most Intel processors do at 100 or 105 °C.
DEFAULT_CEILING_C = 80.0
X86_CEILING_C = 95.0
# A machine that turns itself off is not to come near that, whatever it throttles at.
BELOW_CRITICAL_C = 10.0

# "cpu-thermal" (Raspberry Pi and many others), "x86_pkg_temp", "TCPU" (Intel), "soc-thermal" and
# "bigcore0-thermal" (RK3588, vendor's kernel and mainline), "package-thermal", "cpuss-0-thermal".
_PROCESSOR = re.compile(r"cpu|soc|core|pkg|package|cluster", re.IGNORECASE)
_X86 = re.compile(r"x86_pkg_temp|tcpu|b0d4|acpitz", re.IGNORECASE)
# What else has zones. INT3400 is no sensor at all, and says 20 °C.
_OTHER = re.compile(
    r"gpu|npu|vpu|wifi|iwl|wlan|pch|int34|batt|charg|ddr|dimm|mem|nvme|ssd|modem|cam|skin|ambient"
    r"|center|pmic|usb|pcie|^sen\d|^tsr|video",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Heat:
    """zone: the kernel's name of it. ceiling_c: where the processor is slowed down, as far as is
    known; from_trip: the machine says so itself."""

    zone: str
    temperature_c: float
    ceiling_c: float
    from_trip: bool

    @property
    def headroom_c(self) -> float:
        return self.ceiling_c - self.temperature_c


def read_heat(root: HostRoot) -> Heat | None:
    """Return the processor's zone that is nearest to its ceiling; None: no sensor is believable."""
    unnamed: list[Heat] = []
    processor: list[Heat] = []
    for directory in root.glob(ZONES):
        kind = _text(root, f"{directory}/type")
        if _OTHER.search(kind):
            continue
        celsius = _celsius(root, f"{directory}/temp", _PLAUSIBLE_C)
        if celsius is not None:
            found = processor if _PROCESSOR.search(kind) else unnamed
            found.append(_heat(root, directory, kind, celsius))
    # One that is not named after the processor is all there is on some boards, "acpitz" say; of
    # several such, the first is the board's main one.
    return min(processor or unnamed[:1], key=lambda heat: heat.headroom_c, default=None)


def temperature_c(root: HostRoot) -> float | None:
    """Return the processor's temperature, None where there is none that can be believed."""
    heat = read_heat(root)
    return None if heat is None else heat.temperature_c


def _heat(root: HostRoot, directory: str, kind: str, celsius: float) -> Heat:
    trips = _trips(root, directory)
    passive = sorted(trips.get("passive", []) or trips.get("hot", []))
    ceiling = X86_CEILING_C if _X86.fullmatch(kind) else DEFAULT_CEILING_C
    if passive:
        # This governor begins to regulate at the first one and aims at the last.
        aims = _text(root, f"{directory}/policy") == "power_allocator"
        ceiling = passive[-1 if aims else 0]
    for critical in trips.get("critical", []):
        ceiling = min(ceiling, critical - BELOW_CRITICAL_C)
    return Heat(kind, celsius, ceiling, bool(passive))


def _trips(root: HostRoot, directory: str) -> dict[str, list[float]]:
    """Temperatures in °C by the kernel's word for the kind of trip point."""
    trips: dict[str, list[float]] = {}
    for path in root.glob(f"{directory}/trip_point_*_temp"):
        celsius = _celsius(root, path, _PLAUSIBLE_TRIP_C)
        if celsius is not None:
            kind = _text(root, f"{path.removesuffix('_temp')}_type")
            trips.setdefault(kind, []).append(celsius)
    return trips


def _celsius(root: HostRoot, path: str, plausible: tuple[float, float]) -> float | None:
    try:
        celsius = int(root.read_text(path)) / 1000
    except (HostError, ValueError, OverflowError):
        return None
    # Exactly 0 is a sensor that does not measure, unless the box stands in the frost.
    return celsius if celsius and plausible[0] <= celsius <= plausible[1] else None


def _text(root: HostRoot, path: str) -> str:
    try:
        return root.read_text(path).strip()
    except HostError:
        return ""
