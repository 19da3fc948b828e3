from __future__ import annotations

import asyncio
from pathlib import Path

from scripts.bench_support.peers.cpu_quiet import CpuTicks, wait_until_quiet

#              user nice system idle iowait irq softirq steal guest guest_nice
BEFORE = "cpu  100  10   50     1000 40     1   2       3     60    5\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
AFTER = "cpu  110  10   55     1080 45     1   2       3     70    5\ncpu0 1 1 1 1 1 1 1 1 1 1\n"


def test_idle_and_iowait_are_not_busy_and_guests_are_not_counted_twice() -> None:
    before, after = CpuTicks.of(BEFORE), CpuTicks.of(AFTER)
    assert (before.busy, before.total) == (166, 1206)
    assert after.busy_share_since(before) == 0.15


def test_no_tick_in_between_is_no_division_by_zero() -> None:
    assert CpuTicks.of(BEFORE).busy_share_since(CpuTicks.of(BEFORE)) == 0


def test_a_machine_that_does_nothing_is_quiet(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text(BEFORE)
    assert asyncio.run(wait_until_quiet(0.05, 0.0, stat)) is True


def test_patience_ends(tmp_path: Path) -> None:
    class Busy(type(tmp_path)):  # type: ignore[misc]
        """Every look sees ten ticks more, all of them busy."""

        looks = 0

        def read_text(self, *args: object, **kwargs: object) -> str:
            Busy.looks += 1
            return f"cpu {10 * Busy.looks} 0 0 7 0 0 0 0 0 0\n"

    assert asyncio.run(wait_until_quiet(0.05, 0.0, Busy("stat"))) is False
