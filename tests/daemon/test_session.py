"""One session on a transport that is a fake: turns, full outboxes, the end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest

from qwend.config import LimitsConfig
from qwend.daemon.access import Access
from qwend.daemon.broker import Broker
from qwend.daemon.errands import Errand, Tell
from qwend.daemon.identity import Identity
from qwend.daemon.session import Service, Session
from qwend.daemon.turns import MESSAGES_A_TURN
from qwend.wire.notices import Pong
from qwend.wire.replies import Done, Token
from qwend.wire.usage import Usage
from tests.daemon.fakes import FakeEngine, FakeTimers, config_with
from tests.support.daemon import frame


class FakeTransport(asyncio.Transport):
    """Keeps what is written; ends when it is told to, not before."""

    def __init__(self, peer: socket.socket) -> None:
        super().__init__({"socket": peer})
        self.written = bytearray()
        self.reading = True
        self.closing = False
        self.writes = 0
        self.unread = 0
        self.flush: Callable[[], None] = lambda: None

    def write(self, data: Any) -> None:
        self.written += data
        self.writes += 1

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unread

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def taken(self) -> list[dict[str, Any]]:
        """The messages written since this was asked last."""
        self.flush()
        messages = []
        while self.written:
            length = int.from_bytes(self.written[:4], "big")
            messages.append(msgpack.unpackb(bytes(self.written[4 : 4 + length])))
            del self.written[: 4 + length]
        return messages


@dataclass
class Talk:
    """A session that has said hello, its transport, and the engine behind it."""

    session: Session
    transport: FakeTransport
    engine: FakeEngine
    broker: Broker
    service: Service
    closed: list[Session] = field(default_factory=list)

    def receive(self, data: bytes) -> None:
        receive(self.session, data)

    def pings(self, number: int) -> None:
        self.receive(frame({"op": "ping"}) * number)


def receive(session: Session, data: bytes) -> None:
    """As asyncio does it (BufferedProtocol)."""
    session.get_buffer(-1)[: len(data)] = data
    session.buffer_updated(len(data))


async def carry_out(errand: Errand, tell: Tell) -> Done:
    """An order that ends when it is cancelled."""
    await asyncio.Event().wait()
    raise AssertionError


@contextmanager
def talk(capabilities: Sequence[str] = (), service: Service | None = None) -> Iterator[Talk]:
    timers, engine = FakeTimers(), FakeEngine()
    config = config_with()
    broker = Broker(config, timers.clock, timers.call_later)
    broker.lines.attach(engine)
    service = service or Service(
        broker,
        config.limits,
        Access(0),
        lambda uid: {},
        print,
        carry_out,
        lambda: ("scripted", 100),
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        transport = FakeTransport(ours)
        closed: list[Session] = []
        session = Session(service, lambda session: None, closed.append)
        transport.flush = session.flush
        session.connection_made(transport)
        named = {"capabilities": list(capabilities)} if capabilities else {}
        receive(session, frame({"op": "hello", "protocol": "qwend/1", **named}))
        assert [one["op"] for one in transport.taken()] == ["welcome"]
        yield Talk(session, transport, engine, broker, service, closed)
        if not closed:
            session.connection_lost(None)


def in_a_loop(test: Callable[[Talk], None], capabilities: Sequence[str] = ()) -> None:
    async def main() -> None:
        with talk(capabilities) as one:
            test(one)

    asyncio.run(main())


def test_what_one_turn_of_the_loop_says_is_one_write() -> None:
    def test(one: Talk) -> None:
        before = one.transport.writes
        one.pings(3)
        assert len(one.transport.taken()) == 3
        assert one.transport.writes == before + 1

    in_a_loop(test)


OPENING: list[dict[str, Any]] = [
    {"op": "complete", "prompt": "x"},
    {"op": "tokenize", "text": "x"},
    {"op": "sessions", "do": "list"},
    {"op": "resume", "key": "a key of mine", "from": 0, "text_chars": 0},
    {"op": "drain"},
    {"op": "load", "model": "other"},
    {"op": "unload"},
    {"op": "pull", "model": "other"},
]


@pytest.mark.parametrize("second", OPENING, ids=lambda one: str(one["op"]))
@pytest.mark.parametrize("first", [OPENING[0], OPENING[5]], ids=lambda one: str(one["op"]))
def test_an_id_that_is_in_use_is_refused_whatever_has_it(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    def test(one: Talk) -> None:
        one.receive(frame({"id": 7, **first}))
        one.receive(frame({"id": 7, **second}))
        (refused,) = one.transport.taken()
        assert (refused["op"], refused["id"], refused["code"]) == ("error", 7, "duplicate_id")

    in_a_loop(test)


def test_one_client_has_a_turn_and_the_others_theirs_before_its_next() -> None:
    async def main() -> None:
        with talk() as one:
            await asyncio.sleep(0)  # the greeting was a message too
            one.pings(2 * MESSAGES_A_TURN + 1)
            assert len(one.transport.taken()) == MESSAGES_A_TURN
            assert not one.transport.reading, "it has brought enough for now"
            await asyncio.sleep(0)
            assert len(one.transport.taken()) == MESSAGES_A_TURN
            await asyncio.sleep(0)
            assert len(one.transport.taken()) == 1
            assert one.transport.reading

    asyncio.run(main())


def test_while_the_outbox_is_full_nothing_is_read_and_nothing_handled() -> None:
    def test(one: Talk) -> None:
        one.session.pause_writing()
        assert not one.transport.reading
        one.pings(3)
        assert one.transport.taken() == []
        one.session.resume_writing()
        assert len(one.transport.taken()) == 3
        assert one.transport.reading

    in_a_loop(test)


def test_a_broken_frame_ends_its_requests_before_the_last_word_has_been_read() -> None:
    def test(one: Talk) -> None:
        one.receive(frame({"op": "complete", "id": 1, "prompt": "hello"}))
        one.receive(bytes(4))
        assert one.engine.cancelled == one.engine.submitted
        assert len(one.broker.journal) == 0
        assert [message["op"] for message in one.transport.taken()] == ["error"]
        assert one.transport.closing

    in_a_loop(test)


def test_the_clients_end_of_stream_ends_its_requests_while_the_outbox_is_still_unread() -> None:
    def test(one: Talk) -> None:
        one.receive(frame({"op": "complete", "id": 1, "prompt": "hello"}))
        one.session.eof_received()
        assert one.engine.cancelled == one.engine.submitted
        assert one.transport.closing

    in_a_loop(test)


def test_what_comes_after_a_broken_frame_is_not_handled() -> None:
    def test(one: Talk) -> None:
        one.receive(bytes(4) + frame({"op": "ping"}))
        one.pings(1)
        assert [message["op"] for message in one.transport.taken()] == ["error"]

    in_a_loop(test)


def test_a_lost_connection_is_told_once_and_is_written_to_no_more() -> None:
    def test(one: Talk) -> None:
        one.session.connection_lost(None)
        assert one.closed == [one.session]
        one.session.say_goodbye("shutting_down", "stopping")
        one.session.close()
        one.session.abort()
        assert one.transport.taken() == []

    in_a_loop(test)


def said(one: Talk, op: str = "token") -> list[dict[str, Any]]:
    return [message for message in one.transport.taken() if message["op"] == op]


def test_a_client_that_has_not_named_reasoning_gets_none_and_misses_no_token() -> None:
    def test(one: Talk) -> None:
        one.session.send(Token(1, 0, (7, 8), "", "Hm"))
        one.session.send(Token(1, 2, (), "", "."))
        one.session.send(Token(1, 2, (9,), "Yes", "."))
        assert said(one) == [
            {"op": "token", "id": 1, "index": 0, "ids": [7, 8], "text": ""},
            {"op": "token", "id": 1, "index": 2, "ids": [9], "text": "Yes"},
        ]

    in_a_loop(test)


def test_only_a_client_that_has_named_energy_gets_joules() -> None:
    done = Done(1, "stop", Usage(5, 2, 1, 12.5))

    def without(one: Talk) -> None:
        one.session.send(done)
        (message,) = said(one, "done")
        assert "energy_j" not in message["usage"]

    def with_it(one: Talk) -> None:
        one.session.send(done)
        (message,) = said(one, "done")
        assert message["usage"]["energy_j"] == 12.5

    in_a_loop(without)
    in_a_loop(with_it, capabilities=["energy"])


def test_a_client_that_has_named_reasoning_gets_it() -> None:
    def test(one: Talk) -> None:
        one.session.send(Token(1, 0, (7,), "", "Hm"))
        assert said(one) == [
            {"op": "token", "id": 1, "index": 0, "ids": [7], "text": "", "reasoning": "Hm"}
        ]

    in_a_loop(test, capabilities=["reasoning", "telepathy"])


@pytest.mark.row("B2")
def test_an_outbox_that_grows_while_it_is_full_is_cut_off_with_its_requests() -> None:
    def test(one: Talk) -> None:
        one.receive(frame({"op": "complete", "id": 1, "prompt": "hello"}))
        one.session.pause_writing()
        limit = 4 * LimitsConfig().outbox_bytes
        one.transport.unread = limit
        one.session.send(Pong(1))
        assert not one.transport.closing, "so much may wait"
        one.transport.unread = limit + 1
        one.session.send(Pong(2))
        assert one.transport.closing
        assert one.engine.cancelled == one.engine.submitted
        assert one.broker.journal.failed == 1
        assert [message["op"] for message in one.transport.taken()] == ["pong"]

    in_a_loop(test)


def test_what_is_held_is_what_waits_to_be_read_and_for_the_rest_of_a_message() -> None:
    def test(one: Talk) -> None:
        assert one.session.held_bytes == 0
        one.receive(frame({"op": "ping"})[:-1])
        half = one.session.held_bytes
        assert half == len(frame({"op": "ping"})) - 1
        one.transport.unread = 1000
        one.session.send(Pong(2))
        assert one.session.held_bytes == half + 1000 + len(frame({"op": "pong", "nonce": 2}))

    in_a_loop(test)


@pytest.mark.row("B6")
def test_the_connections_of_one_user_have_one_turn_together_and_another_user_its_own() -> None:
    """1. Three connections of one user bring messages, and then one of another user. Expected: the
    first turn is of the first connection and of the other user; then come those that waited."""

    async def main() -> None:
        with talk() as first, ExitStack() as undo:
            second, third, other = (
                undo.enter_context(talk(service=first.service)) for _ in range(3)
            )
            other.session._identity = Identity(1, 4711, 4711)
            everybody = (first, second, third, other)
            await asyncio.sleep(0)  # the greetings were messages too
            for one in everybody:
                one.pings(MESSAGES_A_TURN)
            answered = [[len(one.transport.taken()) for one in everybody]]
            for _ in range(2):
                await asyncio.sleep(0)
                answered.append([len(one.transport.taken()) for one in everybody])
            full = MESSAGES_A_TURN
            assert answered == [[full, 0, 0, full], [0, full, 0, 0], [0, 0, full, 0]]

    asyncio.run(main())


def test_what_is_noted_for_the_next_front_is_noted_before_it_is_written() -> None:
    """Killed in between, the client has less than is noted: the rest can be said again."""

    def test(one: Talk) -> None:
        there: list[int] = []
        for _ in range(2):
            one.session.send(Pong(None), lambda: there.append(len(one.transport.written)))
        assert there == []
        assert len(one.transport.taken()) == 2
        assert there == [0, 0]

    in_a_loop(test)
