"""What one front notes of a request is what the next one knows of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from qwend.daemon.kept_log import KeptLog
from qwend.daemon.kept_requests import SWEEP_BYTES, KeptRequests, Left
from qwend.engine.continuation import AnswerSoFar
from qwend.engine.events import Produced, Started
from qwend.wire.generation import Generation
from qwend.wire.prompt import ChatMessage
from qwend.wire.replies import Done
from qwend.wire.requests import Chat, Complete
from qwend.wire.usage import Usage

MESSAGE = Complete(4, (1, 2, 3), Generation(seed=7, logit_bias=((5, 1.5),)))
DONE = Done(4, "stop", Usage(3, 0, 2))


@pytest.fixture
def log() -> Iterator[KeptLog]:
    one = KeptLog.create()
    yield one
    one.close()


def left(page: int = 3, message: Complete | Chat = MESSAGE) -> Left:
    return Left(0, 1000, page, 4, message, 100.0, 160.5, 64)


def next_front(log: KeptLog, model: str = "one") -> KeptRequests:
    again = KeptLog.open(os.dup(log.fd))
    assert again is not None
    kept = KeptRequests(again)
    kept.model = model
    return kept


def keyed(key: str = "a key of mine") -> Complete:
    return replace(MESSAGE, generation=replace(MESSAGE.generation, resume=key))


def test_the_next_front_finds_a_request_as_far_as_it_was(log: KeptLog) -> None:
    kept = KeptRequests(log)
    number = kept.open(left())
    kept.start(number, Started(9, 3, 1, 101.0), "one")
    kept.extend(number, Produced(9, 0, (65, 66), "ab", 102.0))
    kept.extend(number, Produced(9, 2, (67,), "", 103.0, "hm"))
    kept.allow(number, 80)
    found = next_front(log).left_on(3, 1000)
    assert set(found) == {4}
    one = found[4]
    assert (one.uid, one.message, one.allowance) == (1000, MESSAGE, 80)
    assert (one.received_s, one.deadline_s) == (100.0, 160.5)
    assert one.so_far.started_event(9) == Started(9, 3, 1, 101.0)
    assert (list(one.so_far.tokens), one.so_far.content) == ([65, 66, 67], "ab")
    assert one.so_far.reasoning == "hm"
    assert (one.so_far.first_token_s, one.so_far.last_token_s) == (102.0, 103.0)


def test_what_was_found_is_noted_again_with_all_of_it(log: KeptLog) -> None:
    kept = KeptRequests(log)
    number = kept.open(left())
    kept.start(number, Started(9, 3, 1, 101.0), "one")
    kept.extend(number, Produced(9, 0, (65,), "a", 102.0))
    kept.extend(number, Produced(9, 1, (66,), "b", 103.0))
    second = next_front(log)
    again = second.left_on(3, 1000)[4]
    second.extend(second.open(again), Produced(1, 2, (67,), "c", 104.0))
    second.sweep()
    third = next_front(log).left_on(3, 1000)[4]
    assert (list(third.so_far.tokens), third.so_far.content) == ([65, 66, 67], "abc")
    assert (third.so_far.first_token_s, third.so_far.last_token_s) == (102.0, 104.0)


def test_what_another_model_has_begun_is_not_gone_on_with(log: KeptLog) -> None:
    kept = KeptRequests(log)
    numbers = kept.open(left()), kept.open(left(page=0, message=keyed()))
    for number in numbers:
        kept.start(number, Started(9, 3, 1, 101.0), "one")
    kept.park(numbers[1], 105.0)
    other = next_front(log, "another")
    assert other.left_on(3, 1000) == {}
    assert other.left_parked() == []
    same = next_front(log, "one")
    assert set(same.left_on(3, 1000)) == {4}
    assert len(same.left_parked()) == 1


def test_what_no_model_has_begun_any_model_may_answer(log: KeptLog) -> None:
    KeptRequests(log).open(left())
    assert set(next_front(log, "another").left_on(3, 1000)) == {4}


def test_an_answer_that_is_over_is_told_whatever_model_gave_it(log: KeptLog) -> None:
    kept = KeptRequests(log)
    number = kept.open(left(message=keyed()))
    kept.start(number, Started(9, 3, 1, 101.0), "one")
    kept.end(number, DONE)
    (over,) = next_front(log, "another").left_parked()
    assert over.last == DONE


def test_another_users_connection_gets_nothing_of_it(log: KeptLog) -> None:
    KeptRequests(log).open(left())
    assert next_front(log).left_on(3, 1001) == {}


def test_one_that_is_over_is_not_found(log: KeptLog) -> None:
    kept = KeptRequests(log)
    kept.forget(kept.open(left()))
    assert next_front(log).left_on(3, 1000) == {}


def test_without_a_page_only_one_with_a_key_is_noted(log: KeptLog) -> None:
    kept = KeptRequests(log)
    assert kept.open(left(page=0)) == 0
    number = kept.open(left(page=0, message=keyed()))
    kept.park(number, 105.0)
    (parked,) = next_front(log).left_parked()
    assert (parked.message, parked.parked_s) == (keyed(), 105.0)


def test_an_end_is_kept_for_who_has_not_heard_it(log: KeptLog) -> None:
    kept = KeptRequests(log)
    kept.end(kept.open(left(message=keyed())), DONE)
    (over,) = next_front(log).left_parked()
    assert over.last == DONE


def test_a_turn_on_its_way_to_the_disk_is_known_as_such(log: KeptLog) -> None:
    kept = KeptRequests(log)
    chat = Chat(4, (ChatMessage("user", "hello"),), session="trip")
    number = kept.open(left(message=chat))
    kept.start(number, Started(9, 3, 1, 101.0), "one")
    told = Produced(9, 0, (65,), "a", 102.0)
    kept.extend(number, told)
    whole = AnswerSoFar()
    whole.extend(told)
    whole.extend(Produced(9, 1, (66,), "b", 103.0))
    kept.keep(number, DONE, whole)
    one = next_front(log).left_on(3, 1000)[4]
    assert one.keeping == DONE
    assert one.so_far.content == "a"
    assert one.whole is not None
    assert (one.whole.content, list(one.whole.tokens)) == ("ab", [65, 66])
    assert one.whole.started_event(9) == Started(9, 3, 1, 101.0)


def test_what_nobody_took_is_gone_after_the_sweep(log: KeptLog) -> None:
    kept = KeptRequests(log)
    kept.open(left())
    second = next_front(log)
    assert second.left_parked() == []  # it has no key, and its connection did not come back
    second.sweep()
    assert log.used_bytes > 0
    assert list(next_front(log).left_on(3, 1000)) == []


def test_requests_that_are_over_do_not_fill_the_log(log: KeptLog) -> None:
    kept = KeptRequests(log)
    long = replace(MESSAGE, prompt="x" * 100_000)
    stays = kept.open(left())
    for _ in range(200):  # 20 MB of them, in a log of 16
        kept.forget(kept.open(left(message=long)))
    assert log.used_bytes < 2 * SWEEP_BYTES
    kept.start(stays, Started(9, 3, 1, 101.0), "one")
    assert next_front(log).left_on(3, 1000)[4].so_far.started_s == 101.0


def test_where_there_is_no_room_to_sweep_the_note_is_made_all_the_same(log: KeptLog) -> None:
    kept = KeptRequests(log)
    long = replace(MESSAGE, prompt="x" * 1_000_000)
    for _ in range(9):  # more than half of the log: there is no room for them twice
        kept.open(left(message=long))
    gone = [kept.open(left(message=long)) for _ in range(3)]
    last = kept.open(left(page=4))
    for number in gone:
        kept.forget(number)
    kept.extend(last, Produced(9, 0, (65,), "a", 102.0))
    assert next_front(log).left_on(4, 1000)[4].so_far.content == "a"


def test_one_that_is_too_long_is_not_kept_and_hinders_nobody(log: KeptLog) -> None:
    kept = KeptRequests(log)
    assert kept.open(left(message=replace(MESSAGE, prompt="x" * (1 << 20)))) == 0
    assert kept.open(left()) > 0
    assert set(next_front(log).left_on(3, 1000)) == {4}


def test_where_nothing_is_kept_every_call_does_nothing() -> None:
    kept = KeptRequests(None)
    number = kept.open(left(message=keyed()))
    assert number == 0
    kept.start(number, Started(9, 3, 1, 101.0), "one")
    kept.extend(number, Produced(9, 0, (65,), "a", 102.0))
    kept.end(number, DONE)
    kept.sweep()
    assert kept.left_parked() == []
    kept.close()
