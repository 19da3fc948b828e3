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
from qwend.errors import CapacityError
from tests.daemon.fakes import FakeOwner, entry_of

RUNNING, QUEUED, QUEUED_IN_ALL = 2, 2, 3


def limited(running: int = RUNNING, queued: int = QUEUED, in_all: int = QUEUED_IN_ALL) -> Admission:
    return Admission(
        LimitsConfig(running_per_uid=running, queued_per_uid=queued, queued=in_all),
    )


def entries_of(uid: int, number: int) -> list[Entry]:
    owner = FakeOwner(uid)
    return [entry_of(owner, client_id) for client_id in range(number)]


def test_what_is_over_the_limit_waits_and_knows_how_many_are_ahead() -> None:
    admission = limited()
    assert [admission.enter(entry) for entry in entries_of(1, 4)] == [None, None, 2, 3]
    assert admission.waiting == 2


def test_one_uid_does_not_take_the_room_of_another() -> None:
    admission = limited()
    for entry in entries_of(1, 4):
        admission.enter(entry)
    admission.check(2)
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
        admission.check(1)
    assert caught.value.retry_after_s == RETRY_AFTER_S


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.admission = limited()
        self.owners = {uid: FakeOwner(uid) for uid in (1, 2, 3)}
        self.running: defaultdict[int, list[Entry]] = defaultdict(list)
        self.waiting: defaultdict[int, list[Entry]] = defaultdict(list)

    @rule(uid=st.sampled_from((1, 2, 3)))
    def ask(self, uid: int) -> None:
        entry = entry_of(self.owners[uid])
        room = len(self.running[uid]) < RUNNING or (
            len(self.waiting[uid]) < QUEUED and sum(map(len, self.waiting.values())) < QUEUED_IN_ALL
        )
        try:
            self.admission.check(uid)
        except CapacityError:
            assert not room
            return
        assert room
        ahead = self.admission.enter(entry)
        if len(self.running[uid]) < RUNNING:
            assert ahead is None
            self.running[uid].append(entry)
        else:
            assert ahead == len(self.running[uid]) + len(self.waiting[uid])
            self.waiting[uid].append(entry)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def end_a_running_one(self, data: st.DataObject) -> None:
        uid = data.draw(st.sampled_from([uid for uid, some in self.running.items() if some]))
        entry = data.draw(st.sampled_from(self.running[uid]))
        self.running[uid].remove(entry)
        successor = self.admission.leave(entry)
        expected = self.waiting[uid].pop(0) if self.waiting[uid] else None
        assert successor is expected
        if expected is not None:
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
