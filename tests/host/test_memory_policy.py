"""The choice of how the weights are kept, from figures alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.host.memory_policy import AtHand, Need, Policy, choose_policy
from qwend.host.space import MEMORY_RESERVE_BYTES

MIB = 2**20
RESERVE = MEMORY_RESERVE_BYTES // MIB


def need(file: int = 336, repacked: int = 192, working: int = 300) -> Need:
    return Need(file * MIB, repacked * MIB, working * MIB)


def at_hand(available: int, copy: int = 0, **more: bool) -> AtHand:
    return AtHand(available * MIB, copy * MIB, **more)


BOTH = 336 + 192 + 300 + RESERVE
ONCE = 336 + 300 + RESERVE


@pytest.mark.parametrize(
    ("available", "policy"),
    [
        (8000, Policy.KEEP),
        (BOTH, Policy.KEEP),
        (BOTH - 1, Policy.DROP),
        (ONCE, Policy.DROP),
        (ONCE - 1, Policy.NO_REPACK),
        (0, Policy.NO_REPACK),
    ],
)
def test_the_quickest_that_fits_is_chosen(available: int, policy: Policy) -> None:
    assert choose_policy(need(), at_hand(available)).policy is policy


def test_a_copy_that_is_there_already_need_not_fit_once_more() -> None:
    assert choose_policy(need(), at_hand(BOTH - 336, copy=336)).policy is Policy.KEEP
    assert choose_policy(need(), at_hand(BOTH - 337, copy=336)).policy is Policy.DROP


def test_a_copy_that_is_insisted_on_is_computed_from_rather_than_dropped() -> None:
    assert choose_policy(need(), at_hand(ONCE, may_drop=False)).policy is Policy.NO_REPACK


def test_without_a_copy_only_the_repacked_weights_must_fit() -> None:
    assert choose_policy(need(), at_hand(ONCE, makes_copy=False)).policy is Policy.KEEP
    assert choose_policy(need(), at_hand(ONCE - 1, makes_copy=False)).policy is Policy.NO_REPACK


def test_where_nothing_is_repacked_there_is_nothing_to_choose() -> None:
    assert choose_policy(need(repacked=0), at_hand(0)).policy is Policy.KEEP


def test_the_reason_has_both_figures() -> None:
    reason = choose_policy(need(), at_hand(700, copy=5)).reason
    assert "705 MiB at hand" in reason
    assert f"{BOTH} MiB wanted" in reason


SIZES = st.integers(0, 10_000)


@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 10_000))
def test_more_memory_never_makes_it_slower(
    file: int, repacked: int, working: int, available: int, more: int
) -> None:
    order = [Policy.NO_REPACK, Policy.DROP, Policy.KEEP]
    wanted = need(file, repacked, working)
    before = choose_policy(wanted, at_hand(available)).policy
    after = choose_policy(wanted, at_hand(available + more)).policy
    assert order.index(after) >= order.index(before)
