"""Admission against a plain model: a count and a list per uid."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from qwend.config import LimitsConfig
from qwend.daemon.admission import RETRY_AFTER_S, Admission
from qwend.daemon.journal import Entry
from qwend.engine.request import Priority
from qwend.errors import CapacityError
from tests.daemon.fakes import FakeOwner, entry_of

RUNNING, QUEUED, QUEUED_IN_ALL = 2, 2, 3
INTERACTIVE, BACKGROUND = Priority.INTERACTIVE, Priority.BACKGROUND


def limited(running: int = RUNNING, queued: int = QUEUED, in_all: int = QUEUED_IN_ALL) -> Admission:
    return Admission(
        LimitsConfig(running_per_uid=running, queued_per_uid=queued, queued=in_all),
    )


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
    admission.check(2, INTERACTIVE)
    assert admission.enter(entries_of(2, 1)[0]) is None


def test_the_oldest_that_waits_runs_next() -> None:
    admission = limited(running=1)
    first, second, third = entries_of(1, 3)
    for entry in (first, second, third):
        admission.enter(entry)
    assert admission.leave(first) is second
    assert admission.leave(second) is third
    assert admission.leave(third) is None


def test_one_that_waits_may_leave_and_nobody_runs_for_it() -> None:
    admission = limited(running=1)
    first, second, third = entries_of(1, 3)
    for entry in (first, second, third):
        admission.enter(entry)
    assert admission.leave(second) is None
    assert admission.leave(first) is third


def test_background_requests_hold_up_no_interactive_one() -> None:
    admission = limited(running=1)
    first, second = entries_of(1, 2, BACKGROUND)
    assert [admission.enter(first), admission.enter(second)] == [None, 1]
    (urgent,) = entries_of(1, 1)
    admission.check(1, INTERACTIVE)
    assert admission.enter(urgent) is None
    # The background one starts when both have ended: it gives way to either.
    assert admission.leave(first) is None
    assert admission.leave(urgent) is second


def test_of_those_that_wait_the_interactive_ones_go_first() -> None:
    admission = limited(running=1)
    running, urgent, urgent_too = entries_of(1, 3)
    (later,) = entries_of(1, 1, BACKGROUND)
    waiting = (running, later, urgent, urgent_too)
    assert [admission.enter(entry) for entry in waiting] == [None, 1, 1, 2]
    assert admission.leave(running) is urgent
    assert admission.leave(urgent) is urgent_too
    assert admission.leave(urgent_too) is later


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
        admission.check(1, INTERACTIVE)
    assert caught.value.retry_after_s == RETRY_AFTER_S


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.admission = limited()
        self.owners = {uid: FakeOwner(uid) for uid in (1, 2, 3)}
        self.running: defaultdict[int, list[Entry]] = defaultdict(list)
        self.waiting: defaultdict[int, list[Entry]] = defaultdict(list)

    def in_the_way(self, uid: int, priority: Priority) -> int:
        """Running requests for which one of this priority waits."""
        kinds = [one.request.priority for one in self.running[uid]]
        return len(kinds) if priority is BACKGROUND else kinds.count(INTERACTIVE)

    @rule(uid=st.sampled_from((1, 2, 3)), priority=st.sampled_from(Priority))
    def ask(self, uid: int, priority: Priority) -> None:
        entry = entry_of(self.owners[uid], priority=priority)
        in_the_way = self.in_the_way(uid, priority)
        room = in_the_way < RUNNING or (
            len(self.waiting[uid]) < QUEUED and sum(map(len, self.waiting.values())) < QUEUED_IN_ALL
        )
        try:
            self.admission.check(uid, priority)
        except CapacityError:
            assert not room
            return
        assert room
        ahead = self.admission.enter(entry)
        if in_the_way < RUNNING:
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
        successor = self.admission.leave(entry)
        expected = next(
            (
                one
                for one in self.waiting[uid]
                if self.in_the_way(uid, one.request.priority) < RUNNING
            ),
            None,
        )
        assert successor is expected
        if expected is not None:
            self.waiting[uid].remove(expected)
            self.running[uid].append(expected)

    @precondition(lambda self: any(self.waiting.values()))
    @rule(data=st.data())
    def end_a_waiting_one(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from([uid for uid, some in self.waiting.items() if some]))
        entry = data.draw(st.sampled_from(self.waiting[uid]))
        self.waiting[uid].remove(entry)
        assert self.admission.leave(entry) is None

    @invariant()
    def counts_agree(self) -> None:
        waiting = Counter({uid: len(some) for uid, some in self.waiting.items()})
        assert self.admission.waiting == waiting.total()


AdmissionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestAdmissionMachine = AdmissionMachine.TestCase
