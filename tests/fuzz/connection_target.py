"""A connection, on either side and in each state: events are messages or coded faults.

Byte 0: side and state. Byte 1: how long the pieces are that the rest arrives in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qwend.wire import (
    BadMessage,
    Connection,
    EndOfStream,
    ErrorCode,
    Event,
    Hello,
    Ping,
    Pong,
    ProtocolFailure,
    Side,
    State,
    Welcome,
    parse_client,
    parse_daemon,
)
from qwend.wire.frame import encode_frame
from tests.wire.vectors import refused, vectors

WELCOME = Welcome("qwend 0", "guide", 512)
CODES = {code.value for code in ErrorCode}
SHOWN_CHARS = 1_000
"""An answer names what was wrong, and does not send it all back."""


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    begin = BEGINNINGS[data[0] % len(BEGINNINGS)]
    stream = data[2:]
    whole = list(conversation(begin(), stream, len(stream) or 1))
    assert list(conversation(begin(), stream, max(1, data[1]))) == whole


def conversation(connection: Connection, stream: bytes, piece_bytes: int) -> Iterator[str]:
    """Feed the stream and the end of it; yield each event as text, checked."""
    for start in range(0, len(stream), piece_bytes):
        connection.receive_data(stream[start : start + piece_bytes])
        yield from (checked(connection, event) for event in connection.events())
    connection.receive_eof()
    yield from (checked(connection, event) for event in connection.events())
    assert connection.state in (State.CLOSED, State.CLOSING)
    assert connection.next_event() is None


def checked(connection: Connection, event: Event) -> str:
    daemon = connection.side is Side.DAEMON
    if isinstance(event, BadMessage | ProtocolFailure):
        answer = event.answer()
        assert answer.code in CODES
        assert 0 < len(answer.message) < SHOWN_CHARS
        if daemon:
            assert connection.send(answer)
    elif isinstance(event, Hello):
        connection.send(WELCOME)
    elif not isinstance(event, EndOfStream):
        parse = parse_client if daemon else parse_daemon
        assert repr(parse(event.to_map())) == repr(event)
        if daemon:
            assert connection.send(Pong())
    return repr(event)


def new_daemon() -> Connection:
    return Connection(Side.DAEMON)


def open_daemon() -> Connection:
    daemon = Connection(Side.DAEMON)
    daemon.receive_data(encode_frame(Hello().to_map()))
    assert daemon.next_event() == Hello()
    daemon.send(WELCOME)
    return daemon


def resumed_daemon() -> Connection:
    return Connection.resumed(encode_frame(Ping(1).to_map())[:7])


def new_client() -> Connection:
    client = Connection(Side.CLIENT)
    client.send(Hello())
    return client


def open_client() -> Connection:
    client = new_client()
    client.receive_data(encode_frame(WELCOME.to_map()))
    assert client.next_event() == WELCOME
    return client


BEGINNINGS: tuple[Callable[[], Connection], ...] = (
    new_daemon,
    open_daemon,
    resumed_daemon,
    new_client,
    open_client,
)


def seeds() -> list[bytes]:
    daemon = b"".join(one.frame for one in vectors() if not one.from_client)
    client = b"".join(one.frame for one in vectors() if one.from_client)
    frames = [*(one.frame for one in vectors()), *(one.frame for one in refused())]
    rest = encode_frame(Ping(1).to_map())[7:]
    return [
        b"\x00\x05" + client,
        b"\x02\x07" + rest + client,
        b"\x03\x09" + daemon,
        *(b"\x04\x40" + one.frame for one in vectors() if not one.from_client),
        *(b"\x01\x40" + frame for frame in frames),
    ]
