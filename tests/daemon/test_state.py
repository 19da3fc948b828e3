"""The daemon's condition in one word."""

from __future__ import annotations

import pytest

from qwend.daemon.state import Condition, DaemonState


def test_ready_with_a_reason_to_be_better_is_degraded() -> None:
    state = DaemonState()
    state.move(Condition.READY, "")
    assert state.word == "ready"
    state.degraded.append("running from disk")
    assert state.word == "degraded"


def test_a_passing_reason_goes_when_it_is_over_and_leaves_the_others() -> None:
    state = DaemonState(degraded=["running from disk"])
    state.move(Condition.READY, "")
    state.regard("heat", ["too hot"])
    state.regard("power", ["under-voltage"])
    assert state.reasons == ["running from disk", "too hot", "under-voltage"]
    state.regard("heat", ["too hot", "throttled"])
    state.regard("power", [])
    assert state.reasons == ["running from disk", "too hot", "throttled"]


def test_a_passing_reason_alone_makes_it_degraded_and_its_end_makes_it_ready() -> None:
    state = DaemonState()
    state.move(Condition.READY, "")
    state.regard("heat", ["too hot"])
    assert state.word == "degraded"
    state.regard("heat", [])
    assert state.word == "ready"


@pytest.mark.parametrize("condition", [Condition.WARMING, Condition.FAILED, Condition.DRAINING])
def test_only_ready_becomes_degraded(condition: Condition) -> None:
    state = DaemonState(degraded=["running from disk"])
    state.move(condition, "")
    assert state.word == condition


@pytest.mark.parametrize("condition", [Condition.READY, Condition.WARMING, Condition.FAILED])
def test_a_drain_is_not_undone(condition: Condition) -> None:
    state = DaemonState()
    state.move(Condition.DRAINING, "draining")
    state.move(condition, "engine lost")
    assert (state.word, state.stage) == ("draining", "draining")


def test_a_move_replaces_the_stage() -> None:
    state = DaemonState()
    state.move(Condition.WARMING, "loading 50%")
    state.move(Condition.READY, "")
    assert state.stage == ""
