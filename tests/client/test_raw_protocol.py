"""The protocol as the real daemon speaks it, to a client that may say anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from qwend.wire import Cancel, Hello, Welcome
from qwend.wire.frame import FrameReader, decode_payload, encode_frame
from qwend.wire.limits import FRAME_BYTES, HELLO_FRAME_BYTES
from tests.support.daemon import RunningDaemon, running_daemon
from tests.wire.vectors import Refused, refused

DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon() as running:
        yield running


class RawClient:
    """A client that may say anything, and reads the answers as maps."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(DEADLINE_S)
        self._socket = connected
        self._reader = FrameReader(FRAME_BYTES)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> dict[str, object] | None:
        """The next message; None once the daemon has closed."""
        while (payload := self._reader.next_payload()) is None:
            data = self._socket.recv(65536)
            if not data:
                return None
            self._reader.feed(data)
        return decode_payload(payload)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def raw(daemon: RunningDaemon) -> Iterator[RawClient]:
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(daemon.socket))
    with closing(RawClient(connected)) as client:
        yield client


def greet(raw: RawClient) -> None:
    raw.send(encode_frame(Hello().to_map()))
    welcome = raw.answer()
    assert welcome is not None
    assert welcome["op"] == Welcome.op


@pytest.mark.parametrize("frame", refused(), ids=str)
def test_each_refused_frame_of_the_page_is_refused(raw: RawClient, frame: Refused) -> None:
    greet(raw)
    raw.send(frame.frame)
    answer = raw.answer()
    assert answer is not None
    assert (answer["op"], answer["code"]) == ("error", frame.code)
    if frame.code in ("bad_frame", "frame_too_large", "too_complex"):
        assert raw.answer() is None
    else:
        raw.send(encode_frame({"op": "ping", "nonce": 5}))
        assert raw.answer() == {"op": "pong", "nonce": 5}


def test_a_stranger_who_does_not_greet_is_told_and_closed(raw: RawClient) -> None:
    raw.send(encode_frame({"op": "status"}))
    answer = raw.answer()
    assert answer is not None
    assert answer["code"] == "hello_first"
    assert raw.answer() is None


def test_an_id_in_use_is_refused_and_its_request_goes_on(raw: RawClient) -> None:
    greet(raw)
    fields = {"op": "complete", "id": 1, "prompt": "abc", "credit": 0, "max_tokens": 3}
    raw.send(encode_frame(fields) * 2 + encode_frame({"op": "credit", "id": 1, "tokens": 9}))
    ops = []
    while (answer := raw.answer()) is not None:
        ops.append((answer["op"], answer.get("code")))
        if answer["op"] == "done":
            break
    assert ("error", "duplicate_id") in ops
    assert ops[-1] == ("done", None)


def test_a_faulty_message_about_an_open_request_does_not_end_it(raw: RawClient) -> None:
    greet(raw)
    fields = {"op": "complete", "id": 1, "prompt": "abc", "credit": 0, "max_tokens": 3}
    raw.send(encode_frame(fields) + encode_frame({"op": "credit", "id": 1, "tokens": 0}))
    raw.send(encode_frame({"op": "credit", "id": 1, "tokens": 9}))
    errors = []
    while (answer := raw.answer()) is not None and answer["op"] != "done":
        if answer["op"] == "error":
            errors.append(answer)
    assert answer is not None
    assert answer["id"] == 1
    (error,) = errors
    assert error["code"] == "invalid_value"
    assert "id" not in error


def test_a_cancel_of_nothing_is_ignored(raw: RawClient) -> None:
    greet(raw)
    raw.send(encode_frame(Cancel(99).to_map()) + encode_frame({"op": "ping"}))
    assert raw.answer() == {"op": "pong"}


def test_a_request_sent_with_the_hello_is_answered_after_the_welcome(raw: RawClient) -> None:
    large = {"op": "tokenize", "id": 1, "text": "x" * 100 + "\0" * HELLO_FRAME_BYTES}
    raw.send(encode_frame(Hello().to_map()) + encode_frame(large))
    answers = [raw.answer(), raw.answer()]
    assert [answer and answer["op"] for answer in answers] in (
        ["welcome", "done"],
        ["welcome", "error"],
    )


def test_frames_that_come_byte_by_byte_are_answered(raw: RawClient) -> None:
    for byte in encode_frame(Hello().to_map()) + encode_frame({"op": "ping"}):
        raw.send(bytes([byte]))
    welcome = raw.answer()
    assert welcome is not None
    assert raw.answer() == {"op": "pong"}


def test_a_thousand_pings_in_one_write_are_a_thousand_pongs(raw: RawClient) -> None:
    greet(raw)
    raw.send(b"".join(encode_frame({"op": "ping", "nonce": n}) for n in range(1000)))
    assert [raw.answer() for _ in range(1000)] == [{"op": "pong", "nonce": n} for n in range(1000)]
