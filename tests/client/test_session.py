"""The sorting of answers, without a socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.client.errors import ConnectionLost, RequestFailed
from qwend.client.session import Inbox, Session
from qwend.wire import (
    Cancel,
    Complete,
    Connection,
    Done,
    Error,
    Hello,
    Message,
    Ping,
    Side,
    Token,
    Usage,
    Welcome,
)

DONE = Done(0, "stop", Usage(1, 0, 1))


class Pair:
    """A session that has been welcomed, and the daemon's end of its connection."""

    def __init__(self) -> None:
        self.session = Session(Path("/nowhere"))
        self.daemon = Connection(Side.DAEMON)
        assert self.read(self.session.hello("test")) == [
            Hello(client="test", capabilities=("reasoning", "energy", "recovering", "loading"))
        ]
        self.say(Welcome("fake 0", "fake", 512))

    def read(self, data: bytes) -> list[object]:
        self.daemon.receive_data(data)
        return list(self.daemon.events())

    def say(self, *messages: Message) -> None:
        self.session.receive(b"".join(self.daemon.send(message) for message in messages))

    def ask(self, inbox: Inbox) -> int:
        request_id, data = self.session.request(lambda id_: Complete(id_, "x"), inbox)
        assert self.read(data) == [Complete(request_id, "x")]
        return request_id


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_ids_count_up_and_a_refused_request_uses_none(pair: Pair) -> None:
    assert pair.ask(Inbox()) == 0
    with pytest.raises(RequestFailed):
        pair.session.request(lambda id_: Complete(id_, (-1,)), Inbox())
    assert pair.ask(Inbox()) == 1


def test_a_waiter_is_woken_for_each_answer(pair: Pair) -> None:
    woken: list[str] = []
    inbox = Inbox(lambda: woken.append("woken"))
    pair.ask(inbox)
    pair.say(Token(0, 0, (1,), "a"), DONE)
    assert len(woken) == 2
    assert pair.session.take(inbox) == Token(0, 0, (1,), "a")
    assert pair.session.take(inbox) == DONE
    assert pair.session.take(inbox) is None


def test_nothing_comes_for_an_abandoned_request(pair: Pair) -> None:
    inbox = Inbox()
    pair.ask(inbox)
    assert pair.read(pair.session.abandon(0)) == [Cancel(0)]
    pair.say(Token(0, 0, (1,), "a"), DONE)
    assert not inbox.messages


@pytest.mark.parametrize("end", [DONE, Error("busy", "later", id=0)])
def test_a_request_that_has_ended_need_not_be_cancelled(pair: Pair, end: Message) -> None:
    pair.ask(Inbox())
    pair.say(end)
    assert pair.session.abandon(0) == b""


def test_what_came_before_the_loss_can_be_taken_and_then_the_loss(pair: Pair) -> None:
    inbox = Inbox()
    pair.ask(inbox)
    pair.say(Token(0, 0, (1,), "a"))
    pair.session.receive(b"")
    assert pair.session.take(inbox) == Token(0, 0, (1,), "a")
    with pytest.raises(ConnectionLost):
        pair.session.take(inbox)
    with pytest.raises(ConnectionLost):
        pair.session.ping(Inbox())


def test_the_first_reason_of_a_loss_stays(pair: Pair) -> None:
    pair.session.end(ConnectionLost("first"))
    pair.session.end(ConnectionLost("second"))
    pair.session.receive(b"")
    assert str(pair.session.lost) == "first"


def test_a_loss_in_the_middle_of_a_message_is_told(pair: Pair) -> None:
    data = pair.daemon.send(DONE)
    pair.session.receive(data[:-1])
    pair.session.receive(b"")
    assert "ended" in str(pair.session.lost)


def test_pongs_find_their_ping_in_any_order(pair: Pair) -> None:
    first, second = Inbox(), Inbox()
    (one,) = pair.read(pair.session.ping(first))
    (two,) = pair.read(pair.session.ping(second))
    assert isinstance(one, Ping)
    assert isinstance(two, Ping)
    assert one.nonce != two.nonce
