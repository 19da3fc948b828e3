"""When which fault comes: a list made from a seed, so that a run can be had again.

Owns the plan alone; `injector` carries it out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle


class Kind(StrEnum):
    KILL_ENGINE = "kill engine"
    STOP_ENGINE = "stop engine"
    HANG_ENGINE = "stop engine for good"
    KILL_FRONT = "kill front"
    STOP_FRONT = "stop front"
    FILL_DISK = "fill disk"


@dataclass(frozen=True, slots=True)
class Fault:
    """at_s: since the load began. for_s: 0 for what happens at once. signal: of a kill, by name."""

    at_s: float
    kind: Kind
    for_s: float = 0.0
    signal: str = ""

    def __str__(self) -> str:
        more = f" with {self.signal}" if self.signal else ""
        return f"{self.at_s:6.1f} s  {self.kind}{more}" + (
            f" for {self.for_s:.1f} s" if self.for_s else ""
        )


# The daemon gives up after more than 5 deaths of the engine in 60 s (supervisor.py). Kills come
# four times in that time at most, which leaves one for an engine that is stopped for good.
ENGINE_KILL_EVERY_S = 16.5
# Fronts die in the first part of the run only: the last one is to grow old enough for a leak to
# show behind its warm-up (report.py).
FRONT_KILLS_UNTIL = 0.5
FRONT_KILL_EVERY_S = 25.0
STOP_EVERY_S = 70.0
DISK_EVERY_S = 60.0

# What is stopped in turn, and for how many seconds at most. An engine that is stopped for good is
# found and killed by the daemon.
STOPS = ((Kind.STOP_ENGINE, 1.5), (Kind.STOP_FRONT, 3.0), (Kind.HANG_ENGINE, 0.0))
SIGNALS = ("SIGKILL", "SIGABRT", "SIGSEGV", "SIGBUS")


def schedule(seconds: float, seed: int, *, disk: bool) -> list[Fault]:
    """At least one of each kind, however short. disk: the state's file system can be filled."""
    chance = random.Random(seed)
    faults: list[Fault] = []

    def spread(every_s: float, begin: float, end: float, least: int = 1) -> list[float]:
        """Times between these shares of the run, each about in the middle of its stretch."""
        length = (end - begin) * seconds
        count = max(least, round(length / every_s))
        stretch = length / count
        return [
            begin * seconds + stretch * (at + chance.uniform(0.45, 0.55)) for at in range(count)
        ]

    for at_s in spread(ENGINE_KILL_EVERY_S, 0.02, 0.98):
        faults.append(Fault(at_s, Kind.KILL_ENGINE, signal=chance.choice(SIGNALS)))
    for at_s in spread(FRONT_KILL_EVERY_S, 0.05, FRONT_KILLS_UNTIL):
        faults.append(Fault(at_s, Kind.KILL_FRONT, signal=chance.choice(SIGNALS)))
    for at_s, (kind, longest_s) in zip(
        spread(STOP_EVERY_S, 0.2, 0.95, 3), cycle(STOPS), strict=False
    ):
        faults.append(Fault(at_s, kind, chance.uniform(longest_s / 2, longest_s)))
    if disk:
        for at_s in spread(DISK_EVERY_S, 0.1, 0.95):
            faults.append(Fault(at_s, Kind.FILL_DISK, min(4.0, seconds / 10)))
    return sorted(faults, key=lambda fault: fault.at_s)


def most_within(times: list[float], window_s: float) -> int:
    """The most of these times that lie in any window of that length."""
    return max((sum(t <= u < t + window_s for u in times) for t in times), default=0)
