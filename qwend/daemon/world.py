"""The outside world of the daemon, as arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qwend.config import Config
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.host.root import HostRoot
from qwend.paths import Paths


@dataclass(frozen=True, slots=True)
class World:
    """script: for the scripted backend, by name.

    reread: the configuration as it is now, for a reload; raises QwendError.
    engine: one that waits already, for the first start; who gives it ends it if it was not taken.
    """

    paths: Paths
    environ: Mapping[str, str]
    host: HostRoot
    script: Mapping[str, Any]
    reread: Callable[[], Config]
    engine: WaitingEngine | None = None
