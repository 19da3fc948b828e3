"""When an engine counts as hung, on a clock that is set by hand."""

from __future__ import annotations

import pytest

from qwend.daemon.engine_pulse import LOOKS, PATIENCE, SLOWEST_STEP, EnginePulse
from qwend.engine.events import Alive, Event, Loading, Produced

pytestmark = pytest.mark.row("F3")

HUNG_AFTER_S = 10.0
TOKEN = Produced(1, 0, (5,), "x", 0.0)


class Watched:
    """A pulse that is looked at as often as it wants, from second 100 on."""

    def __init__(self, *, ready: bool = True, step_ms: dict[int, float] | None = None) -> None:
        self.pulse = EnginePulse(HUNG_AFTER_S)
        self.now = 100.0
        self.pulse.look(self.now)
        if ready:
            self.pulse.ready({"step_ms": step_ms or {1: 20.0, 64: 400.0}}, 128)

    def seconds_until_hung(self, says: Event | None = None, at_most_s: float = 1000.0) -> float:
        """Looks for so long, hearing `says` before each look."""
        begin = self.now
        while self.now - begin < at_most_s:
            self.now += self.pulse.interval_s
            if says is not None:
                self.pulse.heard([says])
            if self.pulse.look(self.now):
                return self.now - begin
        return at_most_s


def test_silence_is_hung_after_the_time_that_is_configured() -> None:
    assert Watched().seconds_until_hung() == pytest.approx(HUNG_AFTER_S)


def test_an_idle_engine_that_answers_is_well_for_ever() -> None:
    assert Watched().seconds_until_hung(Alive(working=False)) == 1000.0


@pytest.mark.parametrize("says", [TOKEN, Loading("loading", 0.5)])
def test_whatever_it_says_of_its_work_is_a_sign_of_life(says: Event) -> None:
    assert Watched().seconds_until_hung(says) == 1000.0


def test_one_that_answers_and_does_not_get_on_with_its_work_is_hung_in_the_end() -> None:
    watched = Watched()
    seconds = watched.seconds_until_hung(Alive(working=True))
    assert seconds == pytest.approx(HUNG_AFTER_S * PATIENCE)
    assert "has not got on" in watched.pulse.look(watched.now)


def test_while_it_starts_it_has_more_time_and_progress_gives_it_anew() -> None:
    watched = Watched(ready=False)
    assert watched.seconds_until_hung(at_most_s=40) == 40
    watched.pulse.heard([Loading("loading", 0.1)])
    assert watched.seconds_until_hung() == pytest.approx(HUNG_AFTER_S * PATIENCE)


def test_a_step_may_take_what_it_was_calibrated_to_and_more() -> None:
    """A Raspberry Pi and a model of 1.5B: 6 s for 64 rows, 12 s for the 128 of a step."""
    assert Watched(step_ms={1: 300.0, 64: 6000.0}).seconds_until_hung() == pytest.approx(
        12 * SLOWEST_STEP, abs=2 * HUNG_AFTER_S / LOOKS
    )


@pytest.mark.parametrize("away_s", [60.0, 86_400.0])
def test_time_in_which_we_were_stopped_ourselves_is_not_its_silence(away_s: float) -> None:
    watched = Watched()
    watched.now += away_s
    assert not watched.pulse.look(watched.now)
    watched.pulse.heard([Alive(working=False)])
    assert watched.seconds_until_hung() == pytest.approx(HUNG_AFTER_S)


def test_many_such_pauses_one_after_the_other_are_no_silence_either() -> None:
    """It answers after each, as an engine does that was stopped together with us."""
    watched = Watched()
    for _ in range(100):
        watched.now += 60.0
        assert not watched.pulse.look(watched.now)
        watched.pulse.heard([Alive(working=False)])
