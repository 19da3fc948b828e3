"""Admission against a plain model: a count and a list per uid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qwend.config import LimitsConfig
from qwend.daemon.admission import RETRY_AFTER_S, Admission
from qwend.daemon.journal import Entry
from qwend.engine.request import Kind, Priority
from qwend.errors import CapacityError
from tests.daemon.fakes import FakeOwner, FakeTimers, entry_of

RUNNING, QUEUED, QUEUED_IN_ALL, PLACES = 2, 2, 3, 3
INTERACTIVE, BACKGROUND = Priority.INTERACTIVE, Priority.BACKGROUND


def limited(
    running: int = RUNNING,
    queued: int = QUEUED,
    in_all: int = QUEUED_IN_ALL,
    places: int = 100,
    tokens_per_minute: int = 0,
    timers: FakeTimers | None = None,
) -> Admission:
    limits = LimitsConfig(
        running_per_uid=running,
        queued_per_uid=queued,
        queued=in_all,
        tokens_per_minute=tokens_per_minute,
    )
    return Admission(limits, places, (timers or FakeTimers()).clock)


def after(admission: Admission, entry: Entry) -> Entry | None:
    """Who runs when this one has ended."""
    admission.leave(entry)
    successor = admission.next_to_run()
    assert admission.next_to_run() is None
    return successor


def entries_of(uid: int, number: int, priority: Priority = INTERACTIVE) -> list[Entry]:
    owner = FakeOwner(uid)
    return [entry_of(owner, client_id, priority=priority) for client_id in range(number)]


def test_what_is_over_the_limit_waits_and_knows_how_many_are_ahead() -> None:
    admission = limited()
    assert [admission.enter(entry) for entry in entries_of(1, 4)] == [None, None, 2, 3]
    assert admission.waiting == 2


def test_one_uid_does_not_take_the_room_of_another() -> None:
    admission = limited()
    for entry in entries_of(1, 4):
        admission.enter(entry)
    admission.check(2, INTERACTIVE, Kind.CHAT)
    assert admission.enter(entries_of(2, 1)[0]) is None


def test_the_oldest_that_waits_runs_next() -> None:
    admission = limited(running=1)
    first, second, third = entries_of(1, 3)
    for entry in (first, second, third):
        admission.enter(entry)
    assert after(admission, first) is second
    assert after(admission, second) is third
    assert after(admission, third) is None


def test_one_that_waits_may_leave_and_nobody_runs_for_it() -> None:
    admission = limited(running=1)
    first, second, third = entries_of(1, 3)
    for entry in (first, second, third):
        admission.enter(entry)
    assert after(admission, second) is None
    assert after(admission, first) is third


def test_background_requests_hold_up_no_interactive_one() -> None:
    admission = limited(running=1)
    first, second = entries_of(1, 2, BACKGROUND)
    assert [admission.enter(first), admission.enter(second)] == [None, 1]
    (urgent,) = entries_of(1, 1)
    admission.check(1, INTERACTIVE, Kind.CHAT)
    assert admission.enter(urgent) is None
    # The background one starts when both have ended: it gives way to either.
    assert after(admission, first) is None
    assert after(admission, urgent) is second


def test_of_those_that_wait_the_interactive_ones_go_first() -> None:
    admission = limited(running=1)
    running, urgent, urgent_too = entries_of(1, 3)
    (later,) = entries_of(1, 1, BACKGROUND)
    waiting = (running, later, urgent, urgent_too)
    assert [admission.enter(entry) for entry in waiting] == [None, 1, 1, 2]
    assert after(admission, running) is urgent
    assert after(admission, urgent) is urgent_too
    assert after(admission, urgent_too) is later


@pytest.mark.parametrize(
    ("queued", "in_all", "named"), [(1, 9, "queued_per_uid"), (9, 1, "queued under")]
)
def test_a_full_queue_says_which_setting_and_when_to_try_again(
    queued: int, in_all: int, named: str
) -> None:
    admission = limited(running=1, queued=queued, in_all=in_all)
    for entry in entries_of(1, 2):
        admission.enter(entry)
    with pytest.raises(CapacityError, match=named) as caught:
        admission.check(1, INTERACTIVE, Kind.CHAT)
    assert caught.value.retry_after_s == RETRY_AFTER_S


def entries_waiting(admission: Admission, uid: int, number: int) -> list[Entry]:
    entries = entries_of(uid, number)
    for entry in entries:
        assert admission.enter(entry) is not None
    return entries


def served(admission: Admission, running: Entry, cost: Mapping[int, int], rounds: int) -> list[int]:
    """The uids of those that run one after another, each computing tokens as its uid is wont."""
    uids = []
    for _ in range(rounds):
        admission.charge(running.owner.uid, cost[running.owner.uid])
        successor = after(admission, running)
        assert successor is not None
        running = successor
        uids.append(running.owner.uid)
    return uids


@pytest.mark.row("B6")
def test_users_have_their_turns_one_after_another_however_many_each_has_waiting() -> None:
    admission = limited(queued=9, in_all=99, places=1)
    (running,) = entries_of(1, 1)
    assert admission.enter(running) is None
    entries_waiting(admission, 1, 9)
    entries_waiting(admission, 2, 3)
    entries_waiting(admission, 3, 3)
    assert served(admission, running, {1: 10, 2: 10, 3: 10}, 9) == [1, 2, 3] * 3


@pytest.mark.row("B6")
def test_who_has_long_answers_has_fewer_turns_and_no_fewer_tokens() -> None:
    admission = limited(queued=200, in_all=999, places=1)
    (running,) = entries_of(1, 1)
    assert admission.enter(running) is None
    entries_waiting(admission, 1, 100)
    entries_waiting(admission, 2, 200)
    cost = {1: 1000, 2: 100}
    uids = Counter(served(admission, running, cost, 110))
    tokens = {uid: uids[uid] * cost[uid] for uid in cost}
    assert tokens[1] == pytest.approx(tokens[2], abs=2 * cost[1])


@pytest.mark.row("B6")
def test_what_was_had_while_nobody_waited_is_not_held_against_anybody() -> None:
    admission = limited(queued=9, in_all=99, places=1)
    (running,) = entries_of(1, 1)
    assert admission.enter(running) is None
    admission.charge(1, 1_000_000)
    entries_waiting(admission, 1, 3)
    entries_waiting(admission, 2, 3)
    assert set(served(admission, running, {1: 10, 2: 10}, 2)) == {1, 2}


def test_the_interactive_ones_of_all_users_go_before_the_background_ones_of_any() -> None:
    admission = limited(queued=9, in_all=99, places=1)
    (running,) = entries_of(1, 1)
    (later,) = entries_of(2, 1, BACKGROUND)
    (urgent,) = entries_of(3, 1)
    for entry in (running, later, urgent):
        admission.enter(entry)
    assert after(admission, running) is urgent
    assert after(admission, urgent) is later


def test_no_more_run_in_all_than_the_engine_decodes_together() -> None:
    admission = limited(running=2, places=3)
    entries = [one for uid in (1, 2) for one in entries_of(uid, 2)]
    assert [admission.enter(entry) for entry in entries] == [None, None, None, 1]
    assert after(admission, entries[0]) is entries[3]


@pytest.mark.row("B6")
def test_the_last_place_is_for_a_user_that_has_none() -> None:
    admission = limited(running=4, queued=9, in_all=99, places=8)
    entries = [one for uid in (1, 2) for one in entries_of(uid, 4)]
    assert [admission.enter(one) for one in entries] == [None] * 7 + [3]
    (third,) = entries_of(3, 1)
    assert admission.enter(third) is None
    assert after(admission, third) is None
    assert after(admission, entries[0]) is entries[7]


def test_who_may_have_all_places_has_all() -> None:
    admission = limited(running=8, places=8)
    assert [admission.enter(one) for one in entries_of(1, 9)] == [None] * 8 + [8]


def test_what_is_only_tokenized_needs_no_place() -> None:
    admission = limited(running=1, places=1)
    admission.enter(entries_of(1, 1)[0])
    tokenize = entry_of(FakeOwner(2), kind=Kind.TOKENIZE)
    admission.check(2, INTERACTIVE, Kind.TOKENIZE)
    assert admission.enter(tokenize) is None
    entries_waiting(admission, 3, 1)
    assert after(admission, tokenize) is None, "it had no place that it could leave"


def test_a_user_that_has_had_its_tokens_of_a_minute_is_told_when_to_come_back() -> None:
    timers = FakeTimers()
    admission = limited(tokens_per_minute=60, timers=timers)
    admission.charge(1, 90)
    with pytest.raises(CapacityError, match="tokens_per_minute") as caught:
        admission.check(1, INTERACTIVE, Kind.CHAT)
    assert caught.value.retry_after_s == pytest.approx(31.0)
    admission.check(2, INTERACTIVE, Kind.CHAT)
    admission.check(1, INTERACTIVE, Kind.TOKENIZE)
    timers.advance(29.5)
    with pytest.raises(CapacityError):
        admission.check(1, INTERACTIVE, Kind.CHAT)
    timers.advance(1.5)
    admission.check(1, INTERACTIVE, Kind.CHAT)


def test_an_account_is_forgotten_when_it_owes_nothing_and_not_before() -> None:
    timers = FakeTimers()
    admission = limited(tokens_per_minute=60, timers=timers)
    admission.charge(1, 90)
    timers.advance(61.0)
    admission.charge(2, 1)
    assert 1 in admission.of_each_uid(), "29 tokens of its 60 are still counted"
    timers.advance(61.0)
    admission.charge(3, 1)
    assert set(admission.of_each_uid()) == {3}


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.timers = FakeTimers()
        self.admission = limited(places=PLACES, timers=self.timers)
        self.owners = {uid: FakeOwner(uid) for uid in (1, 2, 3)}
        self.running: defaultdict[int, list[Entry]] = defaultdict(list)
        self.waiting: defaultdict[int, list[Entry]] = defaultdict(list)

    def in_the_way(self, running: list[Entry], priority: Priority) -> int:
        """Running requests for which one of this priority waits."""
        kinds = [one.request.priority for one in running]
        return len(kinds) if priority is BACKGROUND else kinds.count(INTERACTIVE)

    def may_run(self, uid: int, priority: Priority) -> bool:
        everybody = [one for some in self.running.values() for one in some]
        own = self.in_the_way(self.running[uid], priority)
        return own < RUNNING and self.in_the_way(everybody, priority) < PLACES

    def somebody_runs_instead(self) -> None:
        """The first that may of some uid, an interactive one if there is one; each in its turn."""
        first = {
            uid: next((one for one in some if self.may_run(uid, one.request.priority)), None)
            for uid, some in self.waiting.items()
        }
        may = [one for one in first.values() if one is not None]
        urgent = [one for one in may if one.request.priority is INTERACTIVE]
        successor = self.admission.next_to_run()
        assert (successor in (urgent or may)) if may else (successor is None)
        if successor is not None:
            uid = successor.owner.uid
            self.waiting[uid].remove(successor)
            self.running[uid].append(successor)
            assert self.admission.next_to_run() is None, "one has left, and one has come"

    @rule(uid=st.sampled_from((1, 2, 3)), priority=st.sampled_from(Priority))
    def ask(self, uid: int, priority: Priority) -> None:
        entry = entry_of(self.owners[uid], priority=priority)
        in_the_way = self.in_the_way(self.running[uid], priority)
        may_run = self.may_run(uid, priority)
        room = may_run or (
            len(self.waiting[uid]) < QUEUED and sum(map(len, self.waiting.values())) < QUEUED_IN_ALL
        )
        try:
            self.admission.check(uid, priority, Kind.CHAT)
        except CapacityError:
            assert not room
            return
        assert room
        ahead = self.admission.enter(entry)
        if may_run:
            assert ahead is None
            self.running[uid].append(entry)
        else:
            self.waiting[uid].append(entry)
            self.waiting[uid].sort(key=lambda one: one.request.priority is BACKGROUND)
            assert ahead == in_the_way + self.waiting[uid].index(entry)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def end_a_running_one(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from([uid for uid, some in self.running.items() if some]))
        entry = data.draw(st.sampled_from(self.running[uid]))
        self.running[uid].remove(entry)
        self.admission.leave(entry)
        self.somebody_runs_instead()

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def end_a_waiting_one(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from([uid for uid, some in self.waiting.items() if some]))
        entry = data.draw(st.sampled_from(self.waiting[uid]))
        self.waiting[uid].remove(entry)
        self.admission.leave(entry)
        assert self.admission.next_to_run() is None

    @rule(uid=st.sampled_from((1, 2, 3)), tokens=st.integers(1, 500))
    def compute(self, uid: int, tokens: int) -> None:
        self.admission.charge(uid, tokens)

    @rule(seconds=st.floats(0, 200))
    def time_goes_by(self, seconds: float) -> None:
        self.timers.advance(seconds)

    @invariant()
    def counts_agree(self) -> None:
        waiting = Counter({uid: len(some) for uid, some in self.waiting.items()})
        assert self.admission.waiting == waiting.total()


AdmissionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestAdmissionMachine = AdmissionMachine.TestCase
