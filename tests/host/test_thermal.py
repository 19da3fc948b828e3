"""The temperature is the first zone's, or unknown."""

from __future__ import annotations

import pytest

from qwend.host.thermal import temperature_c

from .conftest import FakeHost

ZONE = "/sys/class/thermal/thermal_zone{}/temp"


def test_the_first_zone_counts(fake: FakeHost) -> None:
    fake.put({ZONE.format(10): "1000\n", ZONE.format(2): "61250\n"})
    assert temperature_c(fake.root) == 61.25


def test_without_zones_it_is_unknown(fake: FakeHost) -> None:
    assert temperature_c(fake.root) is None


@pytest.mark.parametrize("text", ["", "warm\n", "-274000\n", "2147483647\n", "9" * 400])
def test_what_cannot_be_is_unknown(fake: FakeHost, text: str) -> None:
    fake.put({ZONE.format(0): text})
    assert temperature_c(fake.root) is None
