"""What the firmware of a Raspberry Pi did to the processor: too little voltage, too much heat.

Rule 1: flags as the kernel passes them on; `vcgencmd` would need /dev/vcio, which a hardened
service does not have.
Rule 2: this file does not know for how long a flag is worth telling.

Sources: "get_throttled" in the Raspberry Pi documentation of vcgencmd (the bits);
drivers/firmware/raspberrypi.c of its kernel (hexadecimal without 0x; the first reading logs
"deprecated, use hwmon sysfs instead" once); Documentation/hwmon/raspberrypi-hwmon.rst, which is all
that the mainline kernel has: under-voltage alone. That driver asks every 2 s and clears the
"has occurred" bits as it does, so they mean "lately" where it runs, else "since the start".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from qwend.errors import HostError
from qwend.host.root import HostRoot

# "soc" on a Raspberry Pi up to 4, "soc@107c000000" on a 5.
FLAGS = "/sys/devices/platform/soc*/soc*:firmware/get_throttled"
HWMON = "/sys/class/hwmon/hwmon*/name"
_OCCURRED_SHIFT = 16


class Flag(StrEnum):
    """The protocol's words. Their order is that of the bits, from bit 0 on."""

    UNDER_VOLTAGE = "under_voltage"
    FREQUENCY_CAPPED = "frequency_capped"
    THROTTLED = "throttled"
    SOFT_TEMPERATURE_LIMIT = "soft_temperature_limit"


@dataclass(frozen=True, slots=True)
class Throttling:
    """now: at this moment. occurred: lately, or since the start of the machine."""

    now: frozenset[Flag]
    occurred: frozenset[Flag]


def read_throttling(root: HostRoot) -> Throttling | None:
    """Return the flags; None on a machine that has none, or does not let us read them."""
    for path in root.glob(FLAGS):
        try:
            bits = int(root.read_text(path), 16)
        except (HostError, ValueError):
            continue
        return Throttling(_flags(bits), _flags(bits >> _OCCURRED_SHIFT))
    return _alarm(root)


def _flags(bits: int) -> frozenset[Flag]:
    return frozenset(flag for bit, flag in enumerate(Flag) if bits >> bit & 1)


def _alarm(root: HostRoot) -> Throttling | None:
    for name in root.glob(HWMON):
        try:
            if root.read_text(name).strip() != "rpi_volt":
                continue
            alarm = int(root.read_text(name.removesuffix("name") + "in0_lcrit_alarm"))
        except (HostError, ValueError):
            continue
        low = frozenset({Flag.UNDER_VOLTAGE} if alarm else ())
        return Throttling(now=low, occurred=low)
    return None
