"""What may break is what the table says, and nothing else."""

from __future__ import annotations

import pytest

from scripts.lib.soak.survival import LOST, Happened, why_allowed

NOTHING: set[Happened] = set()
ALL, NONE = ("recovering", "resume"), ()


@pytest.mark.parametrize(
    ("op", "how"),
    [("chat", "done:stop"), ("complete", "done:length"), ("prefill", "done:prefilled")],
)
def test_an_ordinary_end_needs_no_reason(op: str, how: str) -> None:
    assert why_allowed(op, how, NOTHING, ALL)


@pytest.mark.parametrize(
    "how", [LOST, "open", "error:engine_lost", "error:internal", "done:cancelled", "done:prefilled"]
)
def test_no_chat_ends_so_when_nothing_has_happened(how: str) -> None:
    assert why_allowed("chat", how, NOTHING, ALL) is None
    assert why_allowed("chat", how, NOTHING, NONE) is None


def test_a_stream_outlives_what_the_daemon_says_it_outlives() -> None:
    engine, front = {Happened.ENGINE_KILLED}, {Happened.FRONT_KILLED}
    for capabilities, by_engine, by_front in (
        ((), True, True),
        (("recovering",), False, True),
        (("recovering", "resume"), False, False),
    ):
        found = [
            why_allowed("chat", "error:engine_lost", killed, capabilities) is not None
            for killed in (engine, front)
        ]
        assert found == [by_engine, by_front]


def test_a_raw_connection_may_end_with_its_front_and_the_library_may_not() -> None:
    killed = {Happened.FRONT_KILLED}
    assert why_allowed("chat", LOST, killed, ALL)
    assert why_allowed("chat", LOST, killed | {Happened.LIBRARY}, ALL) is None
    assert why_allowed("chat", LOST, {Happened.ENGINE_KILLED}, ALL) is None


def test_who_does_not_read_and_who_cancels_has_a_reason_of_its_own() -> None:
    assert why_allowed("chat", "error:slow_consumer", {Happened.SLOW}, ALL)
    assert why_allowed("chat", "error:slow_consumer", NOTHING, ALL) is None
    assert why_allowed("chat", "done:cancelled", {Happened.CANCELLED}, ALL)
    assert why_allowed("chat", "open", {Happened.ABANDONED}, ALL)


def test_a_request_is_poison_after_two_deaths_only() -> None:
    once = {Happened.ENGINE_KILLED}
    twice = {*once, Happened.ENGINE_KILLED_TWICE}
    assert why_allowed("chat", "error:poison_request", once, ALL) is None
    assert why_allowed("chat", "error:poison_request", twice, ALL)
    assert why_allowed("chat", "error:poison_request", {Happened.REFUSED_BEFORE}, ALL)


def test_a_turn_may_fail_for_a_full_disk_and_nothing_else_may() -> None:
    full = {Happened.DISK_FULL}
    assert why_allowed("chat", "error:no_space", full, ALL) is None
    assert why_allowed("chat", "error:no_space", full | {Happened.IN_SESSION}, ALL)
