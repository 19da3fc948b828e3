"""Joules of the machine, shared out by tokens: all of them, and none twice."""

from __future__ import annotations

import pytest

from qwend.daemon.energy_ledger import LATE_TOKENS, EnergyLedger


class Meter:
    joules: float | None = 1000.0

    def __call__(self) -> float | None:
        return self.joules

    def take(self, joules: float) -> None:
        assert self.joules is not None
        self.joules += joules


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def ledger(meter: Meter) -> EnergyLedger:
    return EnergyLedger(meter)


def test_one_request_is_charged_for_all(meter: Meter, ledger: EnergyLedger) -> None:
    meter.take(50.0)
    ledger.started(1)
    ledger.produced(10)
    meter.take(20.0)
    assert ledger.ended(1, 10) == 20.0
    assert ledger.joules_per_token == 2.0


def test_requests_side_by_side_share_by_their_tokens(meter: Meter, ledger: EnergyLedger) -> None:
    ledger.started(1)
    ledger.started(2)
    ledger.produced(30)
    ledger.produced(10)
    meter.take(40.0)
    assert ledger.ended(1, 30) == 30.0
    assert ledger.ended(2, 10) == 10.0


def test_only_what_was_made_while_it_ran_counts(meter: Meter, ledger: EnergyLedger) -> None:
    ledger.started(1)
    ledger.produced(50)
    meter.take(50.0)
    ledger.started(2)
    ledger.produced(10)
    ledger.produced(10)
    meter.take(20.0)
    assert ledger.ended(2, 10) == 10.0


def test_without_a_meter_nothing_is_known(meter: Meter, ledger: EnergyLedger) -> None:
    meter.joules = None
    ledger.started(1)
    ledger.produced(10)
    assert ledger.ended(1, 10) is None
    assert ledger.joules_per_token is None


def test_a_meter_that_fails_or_comes_meanwhile_tells_nothing(
    meter: Meter, ledger: EnergyLedger
) -> None:
    ledger.started(1)
    ledger.produced(10)
    meter.joules = None
    assert ledger.ended(1, 10) is None
    ledger.started(2)
    ledger.produced(10)
    meter.joules = 5.0
    assert ledger.ended(2, 10) is None


@pytest.mark.parametrize("tokens", [0, -1])
def test_what_made_no_token_has_no_share(meter: Meter, ledger: EnergyLedger, tokens: int) -> None:
    ledger.started(1)
    ledger.produced(10)
    meter.take(1.0)
    assert ledger.ended(1, tokens) is None


def test_a_request_that_never_started_has_no_share(ledger: EnergyLedger) -> None:
    ledger.produced(10)
    assert ledger.ended(1, 10) is None


def test_tokens_that_were_held_back_do_not_make_a_share_of_more_than_all(
    meter: Meter, ledger: EnergyLedger
) -> None:
    ledger.started(1)
    ledger.produced(8)
    meter.take(10.0)
    assert ledger.ended(1, 10) == 10.0


def test_a_request_that_starts_again_goes_on(meter: Meter, ledger: EnergyLedger) -> None:
    ledger.started(1)
    ledger.produced(5)
    meter.take(5.0)
    ledger.started(1)
    ledger.produced(5)
    meter.take(5.0)
    assert ledger.ended(1, 10) == 10.0


def test_what_is_forgotten_is_charged_for_nothing(meter: Meter, ledger: EnergyLedger) -> None:
    ledger.started(1)
    ledger.produced(5)
    meter.take(5.0)
    ledger.forget(1)
    ledger.forget(1)
    assert ledger.ended(1, 5) is None


def test_the_figure_of_late_forgets(meter: Meter, ledger: EnergyLedger) -> None:
    for tokens, joules in ((LATE_TOKENS, 5.0 * LATE_TOKENS), (20 * LATE_TOKENS, 0.0)):
        ledger.started(1)
        ledger.produced(tokens)
        meter.take(joules)
        ledger.ended(1, tokens)
    assert ledger.joules_per_token == pytest.approx(5.0 / 21)
    for number in range(100):
        ledger.started(number)
        ledger.produced(100)
        meter.take(100.0)
        ledger.ended(number, 100)
    assert ledger.joules_per_token == pytest.approx(1.0, rel=0.01)


def test_nothing_is_left_of_what_has_ended(meter: Meter, ledger: EnergyLedger) -> None:
    for number in range(10):
        ledger.started(number)
        ledger.ended(number, 1)
    ledger.produced(5)
    meter.take(3.0)
    assert all(ledger.ended(number, 5) is None for number in range(10))
