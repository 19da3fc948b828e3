"""Does this machine run on its battery now?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def on_battery(root: Path = Path("/")) -> bool:
    """False also where there is no battery, or none that says whether it is being charged.

    root: a directory that stands for "/".
    """
    # Imported only here: a chat that is piped in never asks.
    from qwend.host.power_supply import read_power
    from qwend.host.root import HostRoot

    with suppress(OSError):
        power = read_power(HostRoot(root))
        return power is not None and power.on_battery is True
    return False
