"""Whether a daemon can change its model while it runs. For both clients.

Rule 1: one that cannot is said to be so here, before anything is sent.
Rule 2: this file does not know how an order travels.
"""

from __future__ import annotations

from qwend.client.errors import RequestFailed
from qwend.wire import Welcome

CAPABILITY = "loading"


def check_served(welcome: Welcome) -> None:
    """Raises: RequestFailed saying what to do with this daemon instead."""
    if CAPABILITY not in welcome.capabilities:
        raise RequestFailed(
            "unsupported",
            f"this daemon ({welcome.server}) cannot change its model while it runs: set name under "
            "[model], as `qwenctl models default NAME` does, and restart it",
        )
