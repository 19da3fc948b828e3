"""Garbage, flipped bits and spliced frames: only declared faults, and no state survives one."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.wire import (
    BadMessage,
    ClientMessage,
    Connection,
    ErrorCode,
    Event,
    Hello,
    Ping,
    ProtocolFailure,
    Side,
    State,
    Welcome,
)
from qwend.wire.frame import encode_frame
from qwend.wire.messages import parse_client
from tests.wire.vectors import vectors

FRAMES = [vector.frame for vector in vectors() if vector.from_client]
CODES = {code.value for code in ErrorCode}
ROUNDS = int(os.environ.get("QWEND_TEST_FRAMES", "20000"))
"""Frames of the seeded run; a night's run sets a million."""


def open_daemon() -> Connection:
    daemon = Connection(Side.DAEMON)
    daemon.receive_data(encode_frame(Hello().to_map()))
    assert list(daemon.events()) == [Hello()]
    daemon.send(Welcome("qwend 0", "guide", 512))
    return daemon


def swallow(daemon: Connection, data: bytes) -> list[Event]:
    """Feed `data` and the end; check that each event is a message or a fault with a known code."""
    daemon.receive_data(data)
    daemon.receive_eof()
    events = list(daemon.events())
    for event in events:
        if isinstance(event, BadMessage | ProtocolFailure):
            assert event.answer().code in CODES
            assert len(event.answer().message) < 1_000
    assert daemon.state in (State.CLOSED, State.CLOSING)
    return events


@pytest.mark.row("A2")
@given(st.binary(max_size=300))
def test_garbage_to_a_new_connection_is_answered(data: bytes) -> None:
    swallow(Connection(Side.DAEMON), data)


@pytest.mark.row("A2")
@given(st.binary(max_size=300))
def test_garbage_to_an_open_connection_is_answered(data: bytes) -> None:
    swallow(open_daemon(), data)


@pytest.mark.row("A2")
@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5))
def test_garbage_in_good_frames_is_answered(payloads: list[bytes]) -> None:
    swallow(open_daemon(), b"".join(len(p).to_bytes(4, "big") + p for p in payloads))


@pytest.mark.row("A2")
@given(st.binary(max_size=300))
def test_a_client_survives_a_daemon_that_speaks_garbage(data: bytes) -> None:
    client = Connection(Side.CLIENT)
    client.send(Hello())
    client.receive_data(data)
    client.receive_eof()
    list(client.events())


@pytest.mark.row("A1", "A2")
def test_damaged_frames_are_read_or_answered_and_the_next_connection_is_as_new() -> None:
    seed = int(os.environ.get("QWEND_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QWEND_TEST_SEED={seed}")
    chance = random.Random(seed)
    ping = encode_frame(Ping(1).to_map())
    for _ in range(ROUNDS):
        swallow(open_daemon(), damaged(chance))
        after = open_daemon()
        after.receive_data(ping)
        assert list(after.events()) == [Ping(1)]


def damaged(chance: random.Random) -> bytes:
    """A valid frame with bits flipped, cut and spliced, or with a payload of a wrong length."""
    frame = bytearray(chance.choice(FRAMES))
    kind = chance.randrange(4)
    if kind == 0:
        for _ in range(chance.randint(1, 8)):
            frame[chance.randrange(4, len(frame))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        other = chance.choice(FRAMES)
        frame = frame[: chance.randint(4, len(frame))] + other[chance.randrange(len(other)) :]
        frame[:4] = (len(frame) - 4).to_bytes(4, "big")
    elif kind == 2:
        frame[:4] = max(0, len(frame) - 4 + chance.choice((-1, 1))).to_bytes(4, "big")
    else:
        frame[chance.randrange(len(frame))] = chance.randrange(256)
    return bytes(frame)


def test_what_is_read_from_a_damaged_frame_is_a_message_like_any_other() -> None:
    chance = random.Random(1)
    kinds: set[type[ClientMessage]] = set()
    for _ in range(2_000):
        for event in swallow(open_daemon(), damaged(chance)):
            if not isinstance(event, BadMessage | ProtocolFailure) and hasattr(event, "to_map"):
                assert parse_client(event.to_map()) == event
                kinds.add(type(event))
    assert len(kinds) > 5
