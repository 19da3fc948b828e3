"""What becomes a finding."""

from __future__ import annotations

from scripts.lib.soak.ledger import FELT_S, Asked, Ledger
from scripts.lib.soak.stream_check import StreamCheck
from scripts.lib.soak.survival import Happened


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(
    at_s: float, *messages: dict[str, object], own: set[Happened] | None = None, key: str = ""
) -> Asked:
    one = Asked("chat", "somebody", StreamCheck(None, 9), at_s, own or set(), key)
    for message in messages:
        one.check.feed(message)
    return one


ENGINE_LOST: dict[str, object] = {
    "op": "error",
    "code": "engine_lost",
    "message": "killed by SIGKILL",
}
DONE: dict[str, object] = {"op": "done", "finish_reason": "stop", "usage": {"completion_tokens": 0}}


def test_a_broken_stream_is_a_finding_with_what_happened_meanwhile() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    with ledger.episode(Happened.ENGINE_KILLED):
        clock.now = 3.0
    ledger.ended(asked(2.0, ENGINE_LOST))
    (finding,) = ledger.findings
    assert finding.kind == "broken"
    assert "error:engine_lost killed by SIGKILL" in finding.text
    assert "meanwhile: engine killed" in finding.text
    assert (ledger.good, ledger.bad) == (0, 1)


def test_a_fault_of_the_stream_is_a_wrong_answer_however_it_ended() -> None:
    ledger = Ledger(Clock())
    ledger.ended(asked(0.0, DONE, DONE))
    assert [one.kind for one in ledger.findings] == ["wrong"]


def test_a_good_end_is_none() -> None:
    ledger = Ledger(Clock())
    ledger.ended(asked(0.0, DONE))
    assert ledger.findings == []
    assert ledger.endings == {("chat", "done:stop"): 1}
    assert (ledger.good, ledger.bad) == (1, 0)


def test_what_clients_do_to_their_own_requests_says_nothing_of_the_daemon() -> None:
    ledger = Ledger(Clock())
    ledger.ended(asked(0.0, own={Happened.ABANDONED}))
    assert ledger.findings == []
    assert (ledger.good, ledger.bad) == (0, 0)


def test_an_episode_is_felt_from_its_begin_until_shortly_after_its_end() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    clock.now = 10.0
    with ledger.episode(Happened.FRONT_KILLED):
        assert ledger.happened(9.0, 10.0) == {Happened.FRONT_KILLED}
        clock.now = 12.0
    assert ledger.happened(8.0, 9.9) == set()
    assert ledger.happened(12.0 + FELT_S / 2, 20.0) == {Happened.FRONT_KILLED}
    assert ledger.happened(12.1 + FELT_S, 20.0) == set()


def test_two_deaths_during_one_request_are_seen_as_two() -> None:
    ledger = Ledger(Clock())
    with ledger.episode(Happened.ENGINE_KILLED):
        assert Happened.ENGINE_KILLED_TWICE not in ledger.happened(0.0, 1.0)
    with ledger.episode(Happened.FRONT_KILLED):
        assert Happened.ENGINE_KILLED_TWICE in ledger.happened(0.0, 1.0)


def test_the_longest_silence_is_that_of_a_stream_that_was_read() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    for own, until in ((set(), 2.0), ({Happened.SLOW}, 9.0)):
        clock.now = 0.0
        one = asked(0.0, own=own)
        one.heard(0.5)
        one.heard(until)
        one.check.feed(DONE)
        ledger.ended(one)
    assert ledger.longest_silence_s == 1.5


def test_a_request_that_was_refused_as_poison_is_refused_again() -> None:
    poison: dict[str, object] = {"op": "error", "code": "poison_request", "message": "twice"}
    clock = Clock()
    ledger = Ledger(clock)
    for _ in range(2):
        with ledger.episode(Happened.ENGINE_KILLED):
            clock.now += 1.0
    ledger.ended(asked(0.0, poison, key="a"))
    clock.now = 100.0
    ledger.ended(asked(99.0, poison, key="a"))
    assert ledger.findings == []
    ledger.ended(asked(99.0, poison, key="b"))
    assert [one.kind for one in ledger.findings] == ["broken"]
