"""Typing ahead stops on battery, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.cli.chat.battery import on_battery


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Discharging", True),
        ("Charging", False),
        ("Full", False),
        ("Unknown", False),
        (None, False),
    ],
)
def test_only_a_battery_that_is_being_used_counts(
    tmp_path: Path, status: str | None, expected: bool
) -> None:
    if status is not None:
        battery = tmp_path / "sys/class/power_supply/BAT0"
        battery.mkdir(parents=True)
        (battery / "type").write_text("Battery\n")
        (battery / "status").write_text(f"{status}\n")
    assert on_battery(tmp_path) is expected
