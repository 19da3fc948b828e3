"""Idle prefixes make room while memory is short, and get it back after a minute of calm."""

from __future__ import annotations

import pytest

from qwend.daemon.memory_control import (
    CALM_S,
    LEAST_BYTES,
    RESERVE_BYTES,
    SHORT_PERCENT,
    STEP_S,
    MemoryControl,
)
from qwend.host.pressure import MemoryPressure
from qwend.host.reading import Reading

MIB = 2**20
GIB = 2**30
BUDGET = 256 * MIB


def own(percent: float, left: int = 4 * GIB) -> Reading:
    pressure = MemoryPressure(percent, own=True)
    return Reading(pressure=pressure, before_oom_bytes=left, total_bytes=8 * GIB)


def machine(percent: float, left: int | None = 4 * GIB, total: int | None = 8 * GIB) -> Reading:
    pressure = MemoryPressure(percent, own=False)
    return Reading(pressure=pressure, before_oom_bytes=left, total_bytes=total)


SHORT = own(SHORT_PERCENT)
CALM = own(0.0)


@pytest.mark.parametrize(
    "reading",
    [
        Reading(),
        CALM,
        own(SHORT_PERCENT - 0.1),
        machine(50.0),  # another group thrashes below its own limit
        machine(0.0, left=RESERVE_BYTES),
        machine(0.0, left=32 * MIB, total=512 * MIB),
    ],
)
def test_what_is_not_short(reading: Reading) -> None:
    control = MemoryControl(BUDGET)
    control.observe(reading, 100 * MIB, 0.0)
    assert (control.short, control.limit_bytes) == (False, BUDGET)


@pytest.mark.parametrize(
    "reading",
    [
        SHORT,
        machine(SHORT_PERCENT, left=2 * GIB - 1),
        machine(SHORT_PERCENT, left=None, total=None),
        own(0.0, left=RESERVE_BYTES - 1),
        Reading(before_oom_bytes=RESERVE_BYTES - 1),
        machine(0.0, left=32 * MIB - 1, total=512 * MIB),
    ],
)
def test_what_is_short(reading: Reading) -> None:
    control = MemoryControl(BUDGET)
    control.observe(reading, 100 * MIB, 0.0)
    assert (control.short, control.limit_bytes) == (True, 50 * MIB)


def test_while_it_lasts_half_goes_every_ten_seconds_until_nothing_is_left() -> None:
    control = MemoryControl(BUDGET)
    limits = []
    for look in range(60):
        used = min(100 * MIB, control.limit_bytes)
        control.observe(SHORT, used, look * STEP_S / 2)
        limits.append(control.limit_bytes)
    assert limits[:4] == [50 * MIB, 50 * MIB, 25 * MIB, 25 * MIB]
    assert limits[-1] == 0
    assert all(limit == 0 or limit >= LEAST_BYTES for limit in limits)


def test_nothing_idle_may_grow_while_memory_is_short() -> None:
    control = MemoryControl(BUDGET)
    control.observe(SHORT, 0, 0.0)
    assert control.limit_bytes == 0


def test_after_a_minute_of_calm_the_budget_is_what_was_configured() -> None:
    control = MemoryControl(BUDGET)
    control.observe(SHORT, 100 * MIB, 0.0)
    control.observe(CALM, 50 * MIB, CALM_S - 1)
    assert (control.short, control.limit_bytes) == (True, 50 * MIB)
    control.observe(CALM, 50 * MIB, CALM_S)
    assert (control.short, control.limit_bytes) == (False, BUDGET)


@pytest.mark.parametrize("between", [own(5.0), own(0.0, left=2 * RESERVE_BYTES - 1)])
def test_less_than_short_is_not_yet_calm(between: Reading) -> None:
    control = MemoryControl(BUDGET)
    control.observe(SHORT, 100 * MIB, 0.0)
    control.observe(between, 50 * MIB, 50.0)
    control.observe(CALM, 50 * MIB, 100.0)
    assert (control.short, control.limit_bytes) == (True, 50 * MIB)
    control.observe(CALM, 50 * MIB, 50.0 + CALM_S)
    assert not control.short


def test_without_a_cache_memory_may_be_short_all_the_same() -> None:
    control = MemoryControl(0)
    control.observe(SHORT, 0, 0.0)
    assert (control.short, control.limit_bytes) == (True, 0)
