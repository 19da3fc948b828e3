"""Clients that break the protocol get a code or are closed; nobody else notices.

A stream that was begun before the first of them gives one more token after each.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import msgpack
import pytest

from qwend.client import Client, Token, TokenStream
from tests.support.daemon import RawClient, RunningDaemon, frame, running_daemon
from tests.wire.recordings import Recording, recordings

FATAL = {"frame_too_large", "too_complex", "bad_frame", "hello_first", "protocol_mismatch"}
ASK = {"op": "complete", "id": 1, "prompt": "hello"}
CHAT = {"op": "chat", "id": 1, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(script={"answer": "x", "endless": True}) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[Client]:
    with daemon.client() as client:
        yield client


@pytest.fixture(scope="module")
def witness(client: Client) -> TokenStream:
    return client.complete("watch", credit=0, max_tokens=2000)


@pytest.fixture(autouse=True)
def nobody_else_notices(daemon: RunningDaemon, witness: TokenStream) -> Iterator[None]:
    yield
    expected = len(witness.text)
    witness.grant(1)
    token = next(event for event in witness.events() if isinstance(event, Token))
    assert token.index == expected
    assert daemon.process.poll() is None


def of_length(length: int) -> bytes:
    return length.to_bytes(4, "big")


def framed(payload: bytes) -> bytes:
    return of_length(len(payload)) + payload


def nested(depth: int) -> bytes:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return frame({"op": "ping", "nonce": value})


def assert_refused(raw: RawClient, code: str) -> None:
    """One error with this code, then the end."""
    (error,) = raw.read_to_the_end()
    assert (error["op"], error["code"]) == ("error", code)
    assert error["message"]


BROKEN = {
    "length 0": (of_length(0), "bad_frame"),
    "length 1 MiB and a byte": (of_length(2**20 + 1), "frame_too_large"),
    "length 2^31": (of_length(2**31), "frame_too_large"),
    "length 2^32-1": (of_length(2**32 - 1), "frame_too_large"),
    "a byte that is never used": (framed(b"\xc1"), "bad_frame"),
    "nil": (framed(b"\xc0"), "bad_frame"),
    "a number": (framed(b"\x07"), "bad_frame"),
    "an array": (framed(msgpack.packb(["op", "ping"])), "bad_frame"),
    "half a map": (framed(msgpack.packb({"op": "ping"})[:-1]), "bad_frame"),
    "two maps": (framed(msgpack.packb({"op": "ping"}) * 2), "bad_frame"),
    "a key twice": (framed(b"\x82\xa2op\xa4ping\xa2op\xa4ping"), "bad_frame"),
    "no UTF-8": (framed(b"\x81\xa2op\xa2\xff\xfe"), "bad_frame"),
    "a lone surrogate": (framed(b"\x81\xa2op\xa3\xed\xa0\x80"), "bad_frame"),
    "an extension": (frame({"op": "ping", "nonce": msgpack.ExtType(5, b"x")}), "bad_frame"),
    "a time": (frame({"op": "ping", "nonce": msgpack.Timestamp(1, 0)}), "bad_frame"),
    "an array that says 2^32-1": (framed(b"\x81\xa2op\xdd\xff\xff\xff\xff"), "too_complex"),
    "a map that says 2^32-1": (framed(b"\xdf\xff\xff\xff\xff"), "too_complex"),
    "a text that says 2^32-1": (framed(b"\x81\xa2op\xdb\xff\xff\xff\xff"), "bad_frame"),
    "33 deep": (nested(32), "too_complex"),
    "1,000 deep": (nested(1000), "too_complex"),
    "1,025 pairs in a map": (
        frame({"op": "ping", "nonce": dict.fromkeys(range(1025), 0.0)}),
        "too_complex",
    ),
    "10,001 containers": (frame({"op": "ping", "nonce": [[]] * 10_000}), "too_complex"),
}


@pytest.mark.row("A1")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_is_named_and_the_connection_closed(
    daemon: RunningDaemon, name: str
) -> None:
    data, code = BROKEN[name]
    with daemon.raw() as raw:
        raw.send_bytes(data)
        assert_refused(raw, code)


@pytest.mark.row("A1")
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_is_no_hello(daemon: RunningDaemon, name: str) -> None:
    data, _ = BROKEN[name]
    with daemon.raw(hello=False) as raw:
        raw.send_bytes(data)
        (error,) = raw.read_to_the_end()
        assert error["code"] in FATAL


@pytest.mark.row("A3")
def test_a_length_of_gigabytes_costs_no_memory(daemon: RunningDaemon, client: Client) -> None:
    """100 connections at once say that 4 GiB will come, and nothing comes."""
    before = daemon.status()["memory"]["front_rss_bytes"]
    with ExitStack() as connected:
        all_of_them = [connected.enter_context(daemon.raw()) for _ in range(100)]
        for raw in all_of_them:
            raw.send_bytes(of_length(2**32 - 1))
        for raw in all_of_them:
            assert_refused(raw, "frame_too_large")
        after = daemon.status()["memory"]["front_rss_bytes"]
    assert after - before < 100 * 64 * 1024


@pytest.mark.row("A1")
@pytest.mark.parametrize("greeted", [True, False])
@pytest.mark.parametrize("sent", [1, 4, 9])
def test_half_a_frame_and_the_end_is_a_bad_frame(
    daemon: RunningDaemon, greeted: bool, sent: int
) -> None:
    with daemon.raw(hello=greeted) as raw:
        raw.send_bytes(frame(ASK)[:sent])
        raw.socket.shutdown(socket.SHUT_WR)
        assert_refused(raw, "bad_frame")


def test_the_end_between_two_frames_is_no_fault(daemon: RunningDaemon) -> None:
    for hello in (True, False):
        with daemon.raw(hello=hello) as raw:
            raw.socket.shutdown(socket.SHUT_WR)
            assert raw.read_to_the_end() == []


@pytest.mark.row("A1", "A5")
@pytest.mark.parametrize(
    ("first", "code"),
    [
        (ASK, "hello_first"),
        ({"op": "ping"}, "hello_first"),
        ({"op": "status"}, "hello_first"),
        ({"op": "nonsense"}, "hello_first"),
        ({}, "hello_first"),
        *[
            ({"op": "hello", "protocol": protocol}, "protocol_mismatch")
            for protocol in ("qwend/2", "qwend/0", "qwend/1.0", "qwend/1 ", "QWEND/1", "", "http")
        ],
        ({"op": "hello"}, "invalid_message"),
        ({"op": "hello", "protocol": 1}, "invalid_message"),
        ({"op": "hello", "protocol": "qwend/1", "id": 1}, "invalid_message"),
        ({"op": "hello", "protocol": "qwend/1", "client": "x" * 20_000}, "frame_too_large"),
    ],
)
def test_the_first_message_must_be_a_right_hello(
    daemon: RunningDaemon, first: dict[str, Any], code: str
) -> None:
    with daemon.raw(hello=False) as raw:
        raw.send(first)
        assert_refused(raw, code)


@pytest.mark.row("A1")
@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"op": "hello", "protocol": "qwend/1"}, "unexpected_message"),
        ({"op": "nonsense", "id": 1}, "unknown_op"),
        ({"op": "welcome"}, "unexpected_message"),
        ({"id": 1}, "invalid_message"),
        ({"op": 7, "id": 1}, "invalid_message"),
        *[({"op": op, "id": 1}, "unsupported") for op in ("embed",)],
        ({**ASK, "maxtokens": 1}, "invalid_message"),
        ({**ASK, "messages": []}, "invalid_message"),
        ({"op": "complete", "id": 1}, "invalid_message"),
        ({"op": "prefill", "id": 1}, "invalid_message"),
        ({"op": "prefill", "id": 1, "prompt": "x", "messages": []}, "invalid_message"),
        ({"op": "resume", "id": 1}, "invalid_message"),
        ({"op": "resume", "id": 1, "key": "short", "from": 0, "text_chars": 0}, "invalid_value"),
        ({**ASK, "resume": "x" * 65}, "invalid_value"),
        ({"op": "cancel"}, "invalid_message"),
        ({"op": "credit", "id": 1}, "invalid_message"),
        ({"op": "credit", "id": 1, "tokens": 0}, "invalid_value"),
        ({"op": "tokenize", "id": 1, "text": 1}, "invalid_message"),
        ({"op": "tokenize", "id": 1, "text": "x", "special": 1}, "invalid_message"),
        ({"op": "ping", "nonce": -1}, "invalid_value"),
        ({"op": "ping", "nonce": True}, "invalid_message"),
    ],
)
def test_a_wrong_message_is_an_error_and_the_connection_lives(
    daemon: RunningDaemon, message: dict[str, Any], code: str
) -> None:
    with daemon.raw() as raw:
        raw.send(message)
        (error,) = raw.ping()
        assert (error["op"], error["code"]) == ("error", code)
        # With an id it would say that the request is over, and a wrong credit ends none.
        assert error.get("id") == (None if message.get("op") == "credit" else message.get("id"))


def test_an_unknown_key_is_answered_with_the_nearest_known(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        raw.send({**ASK, "maxtokens": 1})
        (error,) = raw.ping()
        assert "max_tokens" in error["message"]


NOT_INTEGERS = [True, "1", 1.0, math.nan, -1, 2**63, None, [1], {}, b"1"]
NOT_NUMBERS = [True, "1", math.nan, math.inf, -math.inf, -1.0, 1e38, None, [1.0], {}, b"1"]
WRONG_VALUES: dict[str, list[Any]] = {
    "max_tokens": [*NOT_INTEGERS, 0, 2**31],
    "top_k": [*NOT_INTEGERS, 2**31],
    "repeat_last_n": [*NOT_INTEGERS, 8193],
    "seed": [*NOT_INTEGERS, 2**32],
    "credit": [*NOT_INTEGERS, 2**31],
    "temperature": NOT_NUMBERS,
    "top_p": [*NOT_NUMBERS, 1.01],
    "min_p": [*NOT_NUMBERS, 1.01],
    "repeat_penalty": [*NOT_NUMBERS, 0, 0.0],
    "deadline_s": [*NOT_NUMBERS, 0, 86_401],
    "ignore_eos": [1, 0, "true", None, []],
    "stop": ["x", 1, None, {}, [1], [None], [""], ["x" * 257], ["x"] * 17, [b"x"]],
    "logit_bias": [
        *([], 1, None, {"a": 1.0}, {1: math.nan}, {1: True}, {1: "x"}, {1: 1e5}),
        *({-1: 0.0}, {2**31: 0.0}, {1.5: 0.0}, {True: 0.0}),
    ],
    "id": [-1, 2**53, 2**63, "1", 1.5, math.nan, True, None, [1], {}],
    "prompt": [None, 1, {}, True, b"x", [True], [-1], [1.5], ["a"], [None], [2**31]],
}
WRONG_MESSAGES: list[Any] = [
    [],
    "hello",
    None,
    {},
    [1],
    [{}],
    [{"role": "user"}],
    [{"content": "x"}],
    [{"role": "tool", "content": "x"}],
    [{"role": 1, "content": "x"}],
    [{"role": "user", "content": 1}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": b"x"}],
    [{"role": "user", "content": "x", "name": "y"}],
]


@pytest.mark.row("A6")
@pytest.mark.parametrize("name", WRONG_VALUES)
def test_no_wrong_value_of_a_field_reaches_the_engine(daemon: RunningDaemon, name: str) -> None:
    accepted = daemon.status()["requests"]["accepted"]
    with daemon.raw() as raw:
        for value in WRONG_VALUES[name]:
            raw.send({**ASK, name: value})
            answers = raw.ping()
            assert [one["op"] for one in answers] == ["error"], value
            assert answers[0]["code"] in ("invalid_message", "invalid_value", "too_complex"), value
            assert name in answers[0]["message"]
            assert answers[0].get("id") == (None if name == "id" else 1)
    assert daemon.status()["requests"]["accepted"] == accepted


@pytest.mark.row("A6")
def test_no_wrong_conversation_reaches_the_engine(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        for messages in WRONG_MESSAGES:
            raw.send({**CHAT, "messages": messages})
            (error,) = raw.ping()
            assert error["code"] in ("invalid_message", "invalid_value"), messages
            assert error["id"] == 1


def with_text(prompt: str) -> bytes:
    return frame({**ASK, "prompt": prompt})


OUTSIZED: dict[str, tuple[bytes, str]] = {
    "64 MiB of text": (of_length(64 << 20), "frame_too_large"),
    "a text of a MiB": (with_text("x" * 2**20), "frame_too_large"),
    "10^6 biases": (of_length(6 << 20), "frame_too_large"),
    "1,025 biases": (frame({**ASK, "logit_bias": dict.fromkeys(range(1_025), 0.0)}), "too_complex"),
    "10,000 messages": (frame({**CHAT, "messages": [{}] * 10_000}), "too_complex"),
    "10^9 answers": (frame({**ASK, "n": 10**9}), "invalid_message"),
    "1,000 stops": (frame({**ASK, "stop": ["x"] * 1_000}), "invalid_value"),
    "a seed of 2^64 - 1": (frame({**ASK, "seed": 2**64 - 1}), "invalid_value"),
    "a bias out of range": (frame({**ASK, "logit_bias": {2**31: 1.0}}), "invalid_value"),
}


@pytest.mark.row("A6")
@pytest.mark.parametrize("name", OUTSIZED)
def test_an_outsized_request_never_reaches_the_engine(daemon: RunningDaemon, name: str) -> None:
    data, code = OUTSIZED[name]
    accepted = daemon.status()["requests"]["accepted"]
    with daemon.raw() as raw:
        raw.send_bytes(data)
        raw.socket.shutdown(socket.SHUT_WR)
        (error,) = raw.read_to_the_end()
        assert (error["op"], error["code"]) == ("error", code)
    assert daemon.status()["requests"]["accepted"] == accepted


@pytest.mark.row("A6")
@pytest.mark.parametrize(
    "fields",
    [
        {"stop": []},
        {"logit_bias": {}},
        {"prompt": "\n" * 1_000},
        {"prompt": "\0" * 1_000},
        {"seed": 2**32 - 1},
        {"logit_bias": dict.fromkeys(range(259), -1e4)},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_only_odd_is_answered(daemon: RunningDaemon, fields: dict[str, Any]) -> None:
    with daemon.raw() as raw:
        raw.send({**ASK, "credit": 1, **fields})
        assert raw.read_until("token", id=1)


@pytest.mark.row("A5")
def test_a_capability_that_nobody_knows_is_no_obstacle(daemon: RunningDaemon) -> None:
    with daemon.raw(hello=False) as raw:
        raw.send({"op": "hello", "protocol": "qwend/1", "capabilities": ["telepathy", ""]})
        assert raw.read_until("welcome")
        assert raw.ping() == []


NOT_UNDERSTOOD = {"bad_frame", "unknown_op", "invalid_message", "unexpected_message", "too_complex"}


@pytest.mark.row("A5")
@pytest.mark.parametrize("recorded", recordings(), ids=str)
def test_what_clients_of_each_version_sent_is_understood(
    daemon: RunningDaemon, recorded: Recording
) -> None:
    for one in recorded.from_clients:
        with daemon.raw(hello=one.op != "hello") as raw:
            raw.send_bytes(one.frame)
            codes = {message["code"] for message in raw.ping() if message["op"] == "error"}
            assert not codes & NOT_UNDERSTOOD, one


@pytest.mark.row("A1")
def test_a_frame_may_come_byte_by_byte(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        for byte in frame({"op": "ping", "nonce": 5}):
            raw.send_bytes(bytes((byte,)))
        assert raw.read() == {"op": "pong", "nonce": 5}


@pytest.mark.row("A1")
def test_1000_frames_in_one_write_are_answered_in_order(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        raw.send_bytes(b"".join(frame({"op": "ping", "nonce": n}) for n in range(1000)))
        assert [raw.read() for _ in range(1000)] == [
            {"op": "pong", "nonce": n} for n in range(1000)
        ]


def test_a_broken_frame_ends_the_requests_of_its_connection(daemon: RunningDaemon) -> None:
    with daemon.raw() as raw:
        raw.send({**ASK, "credit": 0})
        raw.read_until("accepted")
        raw.send_bytes(of_length(0))
        assert raw.read_to_the_end()[-1]["code"] == "bad_frame"
    # One is left: the witness.
    assert daemon.status()["requests"]["open"] == 1
