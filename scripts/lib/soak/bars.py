"""What has to be reached, and whether it was. Owns the figures of the bars."""

from __future__ import annotations

from dataclasses import dataclass

from .injector import Injector
from .ledger import Ledger
from .schedule import Kind
from .trend import Sample, slope

MIB = 1 << 20
# Per 10 minutes.
ENGINE_KILLS, FRONT_KILLS, STOPS = 30, 10, 5
LEAST_CANCELS, SLOPE_MIB_PER_MIN = 0.08, 1.0
# Faults catalogue, J2.
PINGS, GENERATION = 0.999, 0.95
# A line through less says nothing.
LEAST_TREND_S, LEAST_LIVES = 60.0, 8
# A front that dies takes some raw streams with it: a share of few requests says nothing either.
LEAST_REQUESTS = 300


@dataclass(frozen=True, slots=True)
class Bar:
    """held: None where this run was too short to say."""

    name: str
    wanted: str
    reached: str
    held: bool | None


def count_bar(name: str, wanted: int, reached: int) -> Bar:
    return Bar(name, f">= {wanted}", str(reached), reached >= wanted)


def none_bar(name: str, reached: int) -> Bar:
    return Bar(name, "0", str(reached), reached == 0)


def slope_bar(name: str, samples: list[Sample], least: int) -> Bar:
    """samples: bytes over seconds; least: so many make a line."""
    wanted = f"<= {SLOPE_MIB_PER_MIN:g} MiB/min"
    if len(samples) < least:
        return Bar(name, wanted, f"too few samples ({len(samples)})", None)
    growth = slope(samples) * 60 / MIB
    return Bar(name, wanted, f"{growth:+.2f} MiB/min", growth <= SLOPE_MIB_PER_MIN)


def fault_bars(injector: Injector, minutes: float, *, disk: bool) -> list[Bar]:
    done, share = injector.done, minutes / 10
    stops = done[Kind.STOP_ENGINE] + done[Kind.STOP_FRONT] + done[Kind.HANG_ENGINE]
    full = done[Kind.FILL_DISK]
    return [
        count_bar("engine kills", int(ENGINE_KILLS * share), done[Kind.KILL_ENGINE]),
        count_bar("front kills", int(FRONT_KILLS * share), done[Kind.KILL_FRONT]),
        count_bar("SIGSTOPs", int(STOPS * share), stops),
        count_bar("full disks", 1, full) if disk else Bar("full disks", ">= 1", "no mount", None),
    ]


def promise_bars(ledger: Ledger) -> list[Bar]:
    kinds = ("wrong", "broken", "lost turn", "hang", "unexpected", "left over")
    names = (
        "wrong answers",
        "streams broken that survive by design",
        "acknowledged turns lost",
        "hangs",
        "deaths nobody asked for",
        "things left over",
    )
    return [none_bar(name, ledger.count(kind)) for name, kind in zip(names, kinds, strict=True)]


def quality_bars(ledger: Ledger) -> list[Bar]:
    requests = sum(ledger.endings.values()) or 1
    pings = len(ledger.pings_s) + ledger.pings_lost or 1
    asked = ledger.good + ledger.bad or 1
    return [
        Bar(
            "cancelled requests",
            f">= {LEAST_CANCELS:.0%}",
            f"{ledger.cancels / requests:.1%}",
            ledger.cancels / requests >= LEAST_CANCELS if requests >= LEAST_REQUESTS else None,
        ),
        Bar(
            "pings answered",
            f">= {PINGS:.1%}",
            f"{len(ledger.pings_s) / pings:.2%}",
            len(ledger.pings_s) / pings >= PINGS,
        ),
        Bar(
            "requests answered",
            f">= {GENERATION:.0%}",
            f"{ledger.good / asked:.2%}",
            ledger.good / asked >= GENERATION if asked >= LEAST_REQUESTS else None,
        ),
    ]
