from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from qwend.cli.chat.battery import on_battery


@pytest.mark.parametrize(
    ("battery", "expected"),
    [
        (None, False),
        (SimpleNamespace(power_plugged=True), False),
        (SimpleNamespace(power_plugged=None), False),
        (SimpleNamespace(power_plugged=False), True),
    ],
)
def test_only_a_battery_that_is_being_used_counts(
    monkeypatch: pytest.MonkeyPatch, battery: SimpleNamespace | None, expected: bool
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery)

    assert on_battery() is expected


def test_a_battery_that_cannot_be_read_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> None:
        raise OSError("no such device")

    monkeypatch.setattr(psutil, "sensors_battery", unreadable)

    assert not on_battery()
