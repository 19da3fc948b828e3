"""What waits to be written is written at once, and noted before."""

from __future__ import annotations

from functools import partial

from qwend.daemon.outbox import Outbox
from qwend.wire.notices import Error, Pong
from qwend.wire.replies import Progress, Token


def test_it_is_taken_as_a_whole_and_once() -> None:
    outbox = Outbox()
    assert not outbox
    outbox.add(Pong(1), b"one", None)
    outbox.add(Pong(2), b"two!", None)
    assert outbox
    assert len(outbox) == 7
    assert outbox.take() == b"onetwo!"
    assert not outbox
    assert outbox.take() == b""


def test_notes_are_made_when_it_is_taken_in_order_and_once() -> None:
    noted: list[int] = []
    outbox = Outbox()
    for number in range(3):
        outbox.add(Token(1, number, (5,), "a"), b"x", partial(noted.append, number))
    assert noted == []
    outbox.take()
    outbox.take()
    assert noted == [0, 1, 2]


def test_only_what_nobody_notes_and_somebody_misses_is_in_doubt() -> None:
    outbox = Outbox()
    outbox.add(Progress(1, "queued", 0, 2), b"x", None)
    outbox.add(Token(1, 0, (5,), "a"), b"x", lambda: None)
    assert not outbox.in_doubt
    outbox.add(Pong(1), b"x", None)
    assert outbox.in_doubt
    outbox.take()
    assert not outbox.in_doubt


def test_an_end_counts_as_open_until_it_is_taken() -> None:
    outbox = Outbox()
    outbox.add(Error("busy", "later", id=4), b"x", None)
    outbox.add(Error("bad_frame", "of no request"), b"x", None)
    assert outbox.ending == [4]
    outbox.take()
    assert outbox.ending == []
