"""Two connections and the pipes between them against a plain model of what must come out.

The model is a list of messages for each direction: what one side could send, the other receives,
once and in order, however the bytes are cut. A side that is sent garbage fails alone, says so, and
the other is told with a code.
"""

from __future__ import annotations

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from qwend.errors import LocalProtocolError
from qwend.wire import (
    BadMessage,
    Connection,
    EndOfStream,
    Error,
    Hello,
    Message,
    ProtocolFailure,
    Side,
    State,
    Welcome,
)
from qwend.wire.frame import encode_frame
from tests.wire.strategies import client_messages, daemon_messages

WELCOME = Welcome("qwend 0", "guide", 512)
BROKEN = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", b"\0\0\0\x02\x81\xa1")


class End:
    """One side: its connection, the bytes on the way to it, and what is to come of them."""

    def __init__(self, side: Side) -> None:
        self.connection = Connection(side)
        self.coming = bytearray()
        self.expected: list[str] = []
        self.failed = False

    @property
    def open(self) -> bool:
        return self.connection.state is State.OPEN


class Conversation(RuleBasedStateMachine):
    """A client and a daemon. Bytes go into a pipe at once and come out as the machine likes."""

    def __init__(self) -> None:
        super().__init__()
        self.client, self.daemon = End(Side.CLIENT), End(Side.DAEMON)

    @initialize()
    def greet(self) -> None:
        self.send(self.client, Hello(), self.daemon)

    def send(self, sender: End, message: Message, receiver: End) -> None:
        before = sender.connection.state
        try:
            data = sender.connection.send(message)
        except LocalProtocolError:
            # Nothing changed, and nothing went out.
            assert sender.connection.state is before
            return
        receiver.coming += data
        if not receiver.failed:
            receiver.expected.append(repr(message))

    @rule(message=client_messages)
    @precondition(lambda self: self.client.open)
    def the_client_says(self, message: Message) -> None:
        self.send(self.client, message, self.daemon)

    @rule(message=daemon_messages)
    @precondition(lambda self: self.daemon.open)
    def the_daemon_says(self, message: Message) -> None:
        assume(not isinstance(message, Error) or message.id is not None)
        self.send(self.daemon, message, self.client)

    @rule(count=st.integers(1, 50))
    def some_bytes_reach_the_daemon(self, count: int) -> None:
        self.deliver(self.daemon, self.client, count)

    @rule(count=st.integers(1, 50))
    def some_bytes_reach_the_client(self, count: int) -> None:
        self.deliver(self.client, self.daemon, count)

    @rule()
    def everything_reaches_both(self) -> None:
        self.deliver(self.daemon, self.client, len(self.daemon.coming))
        self.deliver(self.client, self.daemon, len(self.client.coming))

    @rule(broken=st.sampled_from(BROKEN))
    @precondition(lambda self: self.daemon.open and not self.daemon.failed)
    def the_clients_next_frame_is_broken(self, broken: bytes) -> None:
        self.daemon.coming += broken
        self.daemon.expected.append("failure")
        self.daemon.failed = True

    @rule(op=st.sampled_from(["nonsense", "welcome", "embed"]))
    @precondition(lambda self: self.daemon.open and not self.daemon.failed)
    def the_clients_next_message_is_none(self, op: str) -> None:
        self.daemon.coming += encode_frame({"op": op})
        self.daemon.expected.append("bad message")

    def deliver(self, receiver: End, sender: End, count: int) -> None:
        data = bytes(receiver.coming[:count])
        del receiver.coming[:count]
        receiver.connection.receive_data(data)
        for event in receiver.connection.events():
            expected = receiver.expected.pop(0)
            if isinstance(event, ProtocolFailure | BadMessage):
                fatal = isinstance(event, ProtocolFailure)
                assert expected == ("failure" if fatal else "bad message")
                self.send(receiver, event.answer(), sender)
                continue
            assert not isinstance(event, EndOfStream)
            assert repr(event) == expected
            if isinstance(event, Hello):
                self.send(receiver, WELCOME, sender)

    def teardown(self) -> None:
        self.everything_reaches_both()
        self.everything_reaches_both()
        assert not self.daemon.expected
        failed = self.daemon.connection.state is State.CLOSING
        assert failed == self.daemon.failed
        if not failed:
            assert not self.client.expected
        # The one that was told of a fault reads no further.
        assert self.client.connection.state is (State.CLOSING if failed else State.OPEN)
        for end in (self.client, self.daemon):
            end.connection.receive_eof()
            assert [type(event) for event in end.connection.events()] == (
                [] if failed else [EndOfStream]
            )


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
