"""Does this machine run on its battery now?"""

from __future__ import annotations

from contextlib import suppress


def on_battery() -> bool:
    """False also where there is no battery, or none that can be read."""
    # Imported only here: a chat that is piped in never asks.
    import psutil

    with suppress(OSError, ValueError):  # a driver may show half of /sys/class/power_supply
        battery = psutil.sensors_battery()
        # None: a battery that does not say whether it is being charged.
        return battery is not None and battery.power_plugged is False
    return False
