"""The state machine: who may say what when, from both sides."""

from __future__ import annotations

import pytest

from qwend.errors import LocalProtocolError
from qwend.wire import (
    BadMessage,
    Cancel,
    Chat,
    ChatMessage,
    Complete,
    Connection,
    EndOfStream,
    Error,
    Event,
    GoAway,
    Hello,
    Message,
    Ping,
    Pong,
    ProtocolFailure,
    Side,
    State,
    Status,
    StatusReply,
    Token,
    Welcome,
    limits,
)
from qwend.wire.frame import encode_frame
from qwend.wire.states import SENDABLE, TRANSITIONS, Step
from tests.wire.vectors import Refused, Vector, refused, vectors

WELCOME = Welcome("qwend 0", "guide", 512)


def open_pair() -> tuple[Connection, Connection]:
    """A client and a daemon that have greeted each other."""
    client, daemon = Connection(Side.CLIENT), Connection(Side.DAEMON)
    assert deliver(client.send(Hello()), daemon) == [Hello()]
    assert deliver(daemon.send(WELCOME), client) == [WELCOME]
    return client, daemon


def deliver(data: bytes, receiver: Connection) -> list[Event]:
    receiver.receive_data(data)
    return list(receiver.events())


def failure(events: list[Event]) -> ProtocolFailure:
    (event,) = events
    assert isinstance(event, ProtocolFailure)
    assert event.error.fatal
    return event


def test_the_greeting_opens_both_sides() -> None:
    client, daemon = open_pair()
    assert client.state is daemon.state is State.OPEN
    assert deliver(client.send(Ping(1)), daemon) == [Ping(1)]
    assert deliver(daemon.send(Pong(1)), client) == [Pong(1)]


@pytest.mark.parametrize("vector", [v for v in vectors() if v.fields["op"] != "hello"], ids=str)
def test_anything_but_hello_first_is_refused_and_ends_it(vector: Vector) -> None:
    daemon = Connection(Side.DAEMON)
    error = failure(deliver(vector.frame, daemon)).error
    assert error.code == "hello_first"
    assert daemon.state is State.CLOSING


@pytest.mark.parametrize("frame", [r for r in refused() if b"hello" not in r.frame], ids=str)
def test_before_the_greeting_every_fault_is_fatal(frame: Refused) -> None:
    event = failure(deliver(frame.frame, Connection(Side.DAEMON)))
    assert event.error.code in (frame.code, "hello_first")


@pytest.mark.row("A5")
def test_another_protocol_is_refused_by_name() -> None:
    hello = encode_frame({"op": "hello", "protocol": "qwend/2"})
    error = failure(deliver(hello, Connection(Side.DAEMON))).error
    assert error.code == "protocol_mismatch"
    assert "'qwend/2'" in str(error)


def test_a_hello_with_an_unknown_field_is_told_which() -> None:
    hello = encode_frame({"op": "hello", "protocol": "qwend/1", "clinet": "x"})
    error = failure(deliver(hello, Connection(Side.DAEMON))).error
    assert error.code == "invalid_message"
    assert "did you mean 'client'?" in str(error)


@pytest.mark.row("A1")
def test_a_second_hello_is_unexpected_and_the_connection_lives() -> None:
    client, daemon = open_pair()
    (event,) = deliver(encode_frame(Hello().to_map()), daemon)
    assert isinstance(event, BadMessage)
    assert event.answer().code == "unexpected_message"
    assert deliver(client.send(Ping()), daemon) == [Ping()]


@pytest.mark.parametrize("frame", refused(), ids=str)
def test_each_refused_frame_of_the_page_is_answered_with_its_code(frame: Refused) -> None:
    client, daemon = open_pair()
    (event,) = deliver(frame.frame, daemon)
    assert isinstance(event, BadMessage | ProtocolFailure)
    answer = event.answer()
    assert answer.code == frame.code
    assert answer.message
    assert deliver(daemon.send(answer), client) == [answer]
    fatal = isinstance(event, ProtocolFailure)
    assert client.state is daemon.state is (State.CLOSING if fatal else State.OPEN)


@pytest.mark.row("A1")
def test_after_a_fatal_fault_nothing_more_is_read() -> None:
    client, daemon = open_pair()
    failure(deliver(b"\0\0\0\0" + client.send(Ping()), daemon))
    assert deliver(client.send(Ping()) * 10_000, daemon) == []
    assert daemon.buffered_bytes == 0
    assert daemon.send(GoAway("bad_frame", "bye"))
    with pytest.raises(LocalProtocolError, match="CLOSING"):
        daemon.send(Pong())


def test_messages_around_a_bad_one_are_read() -> None:
    _, daemon = open_pair()
    ping, bad = encode_frame(Ping().to_map()), encode_frame({"op": "nonsense"})
    events = deliver(ping + bad + ping, daemon)
    assert [type(event) for event in events] == [Ping, BadMessage, Ping]


def test_a_stranger_may_send_16_kib_and_a_friend_1_mib() -> None:
    text = "x" * limits.HELLO_FRAME_BYTES
    stranger = Connection(Side.DAEMON)
    hello = encode_frame({"op": "hello", "protocol": "qwend/1", "client": text})
    assert failure(deliver(hello, stranger)).error.code == "frame_too_large"
    client, daemon = open_pair()
    assert deliver(client.send(Complete(1, text)), daemon) == [Complete(1, text)]


def test_a_request_sent_before_the_welcome_waits_for_it() -> None:
    daemon = Connection(Side.DAEMON)
    large = Complete(1, "x" * limits.HELLO_FRAME_BYTES)
    eager = encode_frame(Hello().to_map()) + encode_frame(large.to_map())
    assert deliver(eager, daemon) == [Hello()]
    assert daemon.next_event() is None
    daemon.send(WELCOME)
    assert list(daemon.events()) == [large]


def test_an_end_between_frames_is_an_end() -> None:
    client, daemon = open_pair()
    daemon.receive_data(client.send(Ping()))
    daemon.receive_eof()
    assert list(daemon.events()) == [Ping(), EndOfStream()]
    assert daemon.state is State.CLOSED
    assert daemon.next_event() is None


@pytest.mark.row("A1")
def test_an_end_inside_a_frame_is_a_fault() -> None:
    for vector in vectors():
        for cut in range(1, len(vector.frame)):
            client, daemon = open_pair()
            receiver = daemon if vector.from_client else client
            receiver.receive_data(vector.frame[:cut])
            receiver.receive_eof()
            error = failure(list(receiver.events())).error
            assert error.code == "bad_frame"


@pytest.mark.parametrize("state", [State.EXPECT_HELLO, State.EXPECT_WELCOME])
def test_the_daemon_may_refuse_before_the_greeting(state: State) -> None:
    client, daemon = Connection(Side.CLIENT), Connection(Side.DAEMON)
    if state is State.EXPECT_WELCOME:
        deliver(client.send(Hello()), daemon)
    busy = Error("busy", "too many connections", retry_after_s=1.0)
    assert deliver(daemon.send(busy), client) == [busy]
    assert client.state is daemon.state is State.CLOSING


def test_an_error_without_id_that_is_not_fatal_leaves_both_open() -> None:
    client, daemon = open_pair()
    deliver(daemon.send(Error("unknown_op", "what?")), client)
    assert client.state is daemon.state is State.OPEN


def test_a_welcome_before_hello_is_refused() -> None:
    client = Connection(Side.CLIENT)
    event = failure(deliver(encode_frame(WELCOME.to_map()), client))
    assert event.error.code == "unexpected_message"


ANY_CLIENT: tuple[Message, ...] = (Hello(), Ping(), Status(), Cancel(1))
ANY_DAEMON: tuple[Message, ...] = (WELCOME, Pong(), StatusReply({}), Token(1, 0, (), ""))


@pytest.mark.parametrize("message", ANY_DAEMON, ids=lambda message: message.op)
def test_a_client_cannot_send_what_daemons_say(message: Message) -> None:
    client, _ = open_pair()
    with pytest.raises(LocalProtocolError, match="client may not send"):
        client.send(message)


@pytest.mark.parametrize("message", ANY_CLIENT, ids=lambda message: message.op)
def test_a_daemon_cannot_send_what_clients_say(message: Message) -> None:
    _, daemon = open_pair()
    with pytest.raises(LocalProtocolError, match="daemon may not send"):
        daemon.send(message)


@pytest.mark.parametrize("message", ANY_CLIENT, ids=lambda message: message.op)
def test_nothing_can_be_sent_once_closed(message: Message) -> None:
    client, _ = open_pair()
    client.close()
    client.close()
    with pytest.raises(LocalProtocolError, match="CLOSED"):
        client.send(message)


def test_a_client_hears_of_its_mistake_before_it_is_sent() -> None:
    client, daemon = open_pair()
    with pytest.raises(LocalProtocolError, match=r"chat\.messages") as caught:
        client.send(Chat(1, ()))
    assert caught.value.code == "invalid_value"
    many = tuple(ChatMessage("user", "x") for _ in range(10_000))
    with pytest.raises(LocalProtocolError) as caught:
        client.send(Chat(1, many))
    assert caught.value.code == "too_complex"
    assert deliver(client.send(Ping()), daemon) == [Ping()]


def test_a_client_keeps_to_the_frame_size_of_its_daemon() -> None:
    client = Connection(Side.CLIENT)
    client.send(Hello())
    deliver(encode_frame(Welcome("q", "m", 1, frame_bytes=16_384).to_map()), client)
    with pytest.raises(LocalProtocolError, match="16,384"):
        client.send(Complete(1, "x" * 16_384))


def test_every_step_of_the_table_leads_somewhere_and_every_state_can_end() -> None:
    for state in State:
        assert TRANSITIONS[state, Step.END] is State.CLOSED
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert (Side.CLIENT, State.CLOSED) not in SENDABLE
    assert (Side.DAEMON, State.CLOSED) not in SENDABLE
