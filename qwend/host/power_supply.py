"""Where the machine's power comes from: mains or a battery, how full, and how much is taken.

Rule 1: what powers the machine counts, not what powers a mouse (scope "Device"); several
batteries are one here.
Rule 2: this file does not know what should be done about it.

Source: Documentation/ABI/testing/sysfs-class-power. Drivers leave out what they do not know, and
each file may fail alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.errors import HostError
from qwend.host.root import HostRoot

SUPPLIES = "/sys/class/power_supply/*/type"
_STORES = ("Battery", "UPS")


@dataclass(frozen=True, slots=True)
class Power:
    """on_battery: None where the drivers do not say. percent: of all batteries together.

    watts: what is being drawn from them, while it is said.
    """

    on_battery: bool | None
    percent: float | None = None
    watts: float | None = None


def read_power(root: HostRoot) -> Power | None:
    """Return how the machine is powered; None where nothing is known, as on most boards."""
    batteries: list[_Battery] = []
    mains: list[bool] = []
    for path in root.glob(SUPPLIES):
        supply = path.removesuffix("/type")
        kind = _text(root, path)
        if _text(root, f"{supply}/scope") == "Device":
            continue
        if kind in _STORES:
            if _text(root, f"{supply}/present") != "0":
                batteries.append(_battery(root, supply))
        else:
            # "Mains", "USB" and its kinds, "Wireless": each brings power in while it is online.
            online = _number(root, f"{supply}/online")
            if online is not None:
                mains.append(online > 0)
    if not batteries and not mains:
        return None
    on_battery = _on_battery(batteries, mains)
    watts = [one.watts for one in batteries if one.watts is not None] if on_battery else []
    return Power(on_battery, _percent(batteries), sum(watts) if watts else None)


@dataclass(frozen=True, slots=True)
class _Battery:
    status: str
    percent: float | None
    full: float | None
    watts: float | None


def _battery(root: HostRoot, supply: str) -> _Battery:
    full = _number(root, f"{supply}/energy_full") or _number(root, f"{supply}/charge_full")
    percent = _number(root, f"{supply}/capacity")
    micro_w = _number(root, f"{supply}/power_now")
    if micro_w is None:
        micro_a = _number(root, f"{supply}/current_now")
        micro_v = _number(root, f"{supply}/voltage_now")
        micro_w = None if micro_a is None or micro_v is None else micro_a * micro_v / 1e6
    return _Battery(
        status=_text(root, f"{supply}/status"),
        percent=None if percent is None else min(max(percent, 0.0), 100.0),
        full=full,
        # Some drivers give the current that leaves a battery as negative.
        watts=None if micro_w is None else abs(micro_w) / 1e6,
    )


def _on_battery(batteries: list[_Battery], mains: list[bool]) -> bool | None:
    if any(mains) or not batteries:
        # A weak charger may not keep up with a battery that goes down; what is online counts.
        return False
    if any(one.status == "Discharging" for one in batteries):
        return True
    if any(one.status in ("Charging", "Full", "Not charging") for one in batteries):
        return False
    # Only the gauge of a UPS board that knows neither; or a plug that is out for certain.
    return True if mains else None


def _percent(batteries: list[_Battery]) -> float | None:
    """Weighted by size where all say their size in the same unit, which one driver does."""
    known = [(one.percent, one.full or 0.0) for one in batteries if one.percent is not None]
    if not known:
        return None
    whole = sum(full for _, full in known)
    if whole and all(full for _, full in known):
        return sum(percent * full for percent, full in known) / whole
    return sum(percent for percent, _ in known) / len(known)


def _number(root: HostRoot, path: str) -> float | None:
    try:
        return float(int(root.read_text(path)))
    except (HostError, ValueError, OverflowError):
        return None


def _text(root: HostRoot, path: str) -> str:
    try:
        return root.read_text(path).strip()
    except HostError:
        return ""
