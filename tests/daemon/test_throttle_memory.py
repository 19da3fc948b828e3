"""Flags are told while they are set; a spike of under-voltage for ten minutes."""

from __future__ import annotations

import pytest

from qwend.daemon.throttle_memory import TOLD_S, ThrottleMemory
from qwend.host.throttling import Flag, Throttling

NONE = Throttling(frozenset(), frozenset())


def flags(*now: Flag, occurred: tuple[Flag, ...] = ()) -> Throttling:
    return Throttling(frozenset(now), frozenset(occurred))


def test_a_machine_without_flags_has_no_reasons_and_no_status() -> None:
    memory = ThrottleMemory()
    memory.observe(None, 0.0)
    assert (list(memory.reasons(0.0)), memory.status()) == ([], None)


@pytest.mark.parametrize("flag", Flag)
def test_what_is_now_is_a_reason_in_plain_words(flag: Flag) -> None:
    memory = ThrottleMemory()
    memory.observe(flags(flag), 0.0)
    (reason,) = memory.reasons(0.0)
    assert "_" not in reason
    assert memory.status() == {"now": [flag.value], "occurred": [flag.value]}


def test_what_is_over_is_no_reason_but_stays_in_the_status() -> None:
    memory = ThrottleMemory()
    memory.observe(flags(Flag.THROTTLED), 0.0)
    memory.observe(NONE, 5.0)
    assert list(memory.reasons(5.0)) == []
    assert memory.status() == {"now": [], "occurred": ["throttled"]}


def test_under_voltage_is_told_for_ten_minutes_after_it() -> None:
    memory = ThrottleMemory()
    memory.observe(flags(Flag.UNDER_VOLTAGE), 0.0)
    memory.observe(NONE, 5.0)
    (reason,) = memory.reasons(TOLD_S - 1)
    assert "within the last ten minutes" in reason
    assert list(memory.reasons(TOLD_S)) == []


def test_a_spike_between_two_looks_is_seen_by_what_has_occurred() -> None:
    memory = ThrottleMemory()
    memory.observe(NONE, 0.0)
    memory.observe(flags(occurred=(Flag.UNDER_VOLTAGE, Flag.THROTTLED)), 5.0)
    assert len(list(memory.reasons(5.0))) == 1
    assert memory.status() == {"now": [], "occurred": ["under_voltage", "throttled"]}


def test_what_occurred_before_we_looked_is_of_no_known_time() -> None:
    memory = ThrottleMemory()
    for at in (0.0, 5.0):
        memory.observe(flags(occurred=(Flag.UNDER_VOLTAGE,)), at)
        assert list(memory.reasons(at)) == []
    assert memory.status() == {"now": [], "occurred": ["under_voltage"]}
