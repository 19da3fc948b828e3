"""What may break is what the table says, and nothing else."""

from __future__ import annotations

import pytest

from scripts.lib.soak.survival import LOST, Happened, why_allowed

NOTHING: set[Happened] = set()


@pytest.mark.parametrize(
    ("op", "how"),
    [("chat", "done:stop"), ("complete", "done:length"), ("prefill", "done:prefilled")],
)
def test_an_ordinary_end_needs_no_reason(op: str, how: str) -> None:
    assert why_allowed(op, how, NOTHING)


@pytest.mark.parametrize(
    "how", [LOST, "open", "error:engine_lost", "error:internal", "done:cancelled", "done:prefilled"]
)
def test_no_chat_ends_so_when_nothing_has_happened(how: str) -> None:
    assert why_allowed("chat", how, NOTHING) is None


@pytest.mark.parametrize("fault", [Happened.ENGINE_KILLED, Happened.FRONT_KILLED])
def test_a_stream_outlives_its_engine_and_its_front(fault: Happened) -> None:
    assert why_allowed("chat", "error:engine_lost", {fault}) is None


def test_a_raw_connection_may_end_with_its_front_and_the_library_may_not() -> None:
    killed = {Happened.FRONT_KILLED}
    assert why_allowed("chat", LOST, killed)
    assert why_allowed("chat", LOST, killed | {Happened.LIBRARY}) is None
    assert why_allowed("chat", LOST, {Happened.ENGINE_KILLED}) is None


def test_who_does_not_read_and_who_cancels_has_a_reason_of_its_own() -> None:
    assert why_allowed("chat", "error:slow_consumer", {Happened.SLOW})
    assert why_allowed("chat", LOST, {Happened.SLOW})
    assert why_allowed("chat", "error:slow_consumer", NOTHING) is None
    assert why_allowed("chat", "done:cancelled", {Happened.CANCELLED})
    assert why_allowed("chat", "open", {Happened.ABANDONED})


def test_a_request_is_poison_after_two_deaths_only() -> None:
    once = {Happened.ENGINE_KILLED}
    twice = {*once, Happened.ENGINE_KILLED_TWICE}
    assert why_allowed("chat", "error:poison_request", once) is None
    assert why_allowed("chat", "error:poison_request", twice)
    assert why_allowed("chat", "error:poison_request", {Happened.REFUSED_BEFORE})


def test_a_turn_may_fail_for_a_full_disk_and_nothing_else_may() -> None:
    full = {Happened.DISK_FULL}
    assert why_allowed("chat", "error:no_space", full) is None
    assert why_allowed("chat", "error:no_space", full | {Happened.IN_SESSION})
