"""How hot the machine is.

Rule 1: one figure, of the first zone, which on small boards is the processor.
Rule 2: this file does not know what to do about heat.

Source: Documentation/driver-api/thermal/sysfs-api.rst: temp is in millidegrees Celsius.
"""

from __future__ import annotations

from qwend.errors import HostError
from qwend.host.root import HostRoot

# A sensor that is off or broken says 0, -274000 or 2^31; no board computes outside this range.
_PLAUSIBLE_C = (-60.0, 200.0)


def temperature_c(root: HostRoot) -> float | None:
    """Return the first zone's temperature, None where there is none that can be believed."""
    for path in root.glob("/sys/class/thermal/thermal_zone*/temp")[:1]:
        try:
            celsius = int(root.read_text(path)) / 1000
        except (HostError, ValueError, OverflowError):
            return None
        return celsius if _PLAUSIBLE_C[0] <= celsius <= _PLAUSIBLE_C[1] else None
    return None
