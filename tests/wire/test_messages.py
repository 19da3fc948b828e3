"""Messages: what each may say, and how a fault in one is reported."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.errors import RemoteProtocolError
from qwend.wire import (
    Chat,
    ChatMessage,
    ClientMessage,
    Complete,
    DaemonMessage,
    Done,
    Error,
    Ping,
    Prefill,
    Timings,
    Token,
    Usage,
    parse_client,
    parse_daemon,
)
from qwend.wire.frame import decode_payload, encode_frame
from tests.wire.strategies import anything, client_messages, daemon_messages
from tests.wire.vectors import Vector, vectors


def parse(vector: Vector, fields: dict[str, Any]) -> ClientMessage | DaemonMessage:
    return parse_client(fields) if vector.from_client else parse_daemon(fields)


def outcome(vector: Vector, fields: dict[str, Any]) -> RemoteProtocolError | None:
    try:
        parse(vector, fields)
    except RemoteProtocolError as error:
        return error
    return None


def fault(fields: dict[Any, Any]) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_client(decode_payload(encode_frame(fields)[4:]))
    assert not caught.value.fatal
    return caught.value


@given(client_messages)
def test_every_client_message_survives_the_wire(message: ClientMessage) -> None:
    assert parse_client(decode_payload(encode_frame(message.to_map())[4:])) == message


@given(daemon_messages)
def test_every_daemon_message_survives_the_wire(message: DaemonMessage) -> None:
    assert parse_daemon(decode_payload(encode_frame(message.to_map())[4:])) == message


@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_each_field_left_out_is_optional_or_missed_by_name(vector: Vector) -> None:
    for name in vector.fields:
        fields = {key: value for key, value in vector.fields.items() if key != name}
        if error := outcome(vector, fields):
            assert error.code == "invalid_message"
            assert f"'{name}'" in str(error)


FIELD_CODES = ("invalid_message", "invalid_value", "unknown_op", "unsupported")
WRONG_EVERYWHERE: tuple[object, ...] = (None, b"bytes", [[]], -1, -1.0, float("nan"))


@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_each_field_of_a_wrong_type_is_refused_by_name(vector: Vector) -> None:
    for name in vector.fields:
        for wrong in WRONG_EVERYWHERE:
            error = outcome(vector, {**vector.fields, name: wrong})
            assert error is not None
            assert name in str(error)
            assert not error.fatal


@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_an_extra_field_is_refused_by_name(vector: Vector) -> None:
    with pytest.raises(RemoteProtocolError, match="no field 'surplus'"):
        parse(vector, {**vector.fields, "surplus": 1})


def test_an_extra_field_inside_is_refused_by_its_place() -> None:
    message = {"role": "user", "content": "x", "name": "Ann"}
    error = fault({"op": "chat", "id": 1, "messages": [message]})
    assert "chat.messages[0] has no field 'name'" in str(error)
    done = Done(1, "stop", Usage(1, 0, 1), Timings()).to_map()
    for name in ("usage", "timings"):
        inside = done[name]
        assert isinstance(inside, dict)
        with pytest.raises(RemoteProtocolError, match=f"done.{name} has no field 'surplus'"):
            parse_daemon({**done, name: {**inside, "surplus": 1}})


def test_energy_that_was_not_measured_is_left_out() -> None:
    assert "energy_j" not in Usage(1, 0, 1).to_map()
    for joules in (0.0, 2.5):
        usage = Usage(1, 0, 1, joules)
        done = parse_daemon(Done(1, "stop", usage).to_map())
        assert isinstance(done, Done)
        assert done.usage == usage


@pytest.mark.parametrize("joules", [-0.5, float("nan"), float("inf"), True, "1"])
def test_energy_is_a_number_of_joules(joules: object) -> None:
    fields = Done(1, "stop", Usage(1, 0, 1)).to_map()
    usage = {**Usage(1, 0, 1).to_map(), "energy_j": joules}
    with pytest.raises(RemoteProtocolError, match="energy_j"):
        parse_daemon({**fields, "usage": usage})


def test_a_misspelt_field_is_told_the_nearest() -> None:
    error = fault({"op": "complete", "id": 7, "prompt": "x", "temprature": 1})
    assert (error.code, error.request_id) == ("invalid_message", 7)
    assert str(error) == "complete has no field 'temprature'; did you mean 'temperature'?"


def test_a_misspelt_op_is_told_the_nearest() -> None:
    error = fault({"op": "chta", "id": 7})
    assert (error.code, error.request_id) == ("unknown_op", 7)
    assert "did you mean 'chat'?" in str(error)


@pytest.mark.parametrize("op", ["embed"])
def test_an_op_of_later_is_unsupported(op: str) -> None:
    error = fault({"op": op, "id": 7})
    assert (error.code, error.request_id) == ("unsupported", 7)


def test_a_message_of_the_wrong_direction_is_unexpected() -> None:
    assert fault({"op": "welcome"}).code == "unexpected_message"
    with pytest.raises(RemoteProtocolError, match="other side") as caught:
        parse_daemon({"op": "chat", "id": 1})
    assert caught.value.code == "unexpected_message"


@pytest.mark.parametrize("given_id", [-1, 2**53, 1.0, True, "1", None, [1]])
def test_an_id_that_cannot_be_one_is_not_repeated(given_id: object) -> None:
    error = fault({"op": "complete", "id": given_id, "prompt": "x"})
    assert error.request_id is None
    assert "complete.id" in str(error)


@pytest.mark.parametrize("fields", [{"op": "credit", "tokens": 0}, {"op": "cancel", "now": 1}])
def test_a_fault_about_an_open_request_does_not_end_it(fields: dict[str, Any]) -> None:
    assert fault({**fields, "id": 7}).request_id is None


def complete(**fields: object) -> dict[str, Any]:
    return {"op": "complete", "id": 7, "prompt": "x", **fields}


NAN, INF = float("nan"), float("inf")
BOUNDS: dict[str, tuple[list[object], list[object]]] = {
    # field: what is allowed at its edges, and what is just beyond
    "max_tokens": ([1, 2**31 - 1], [0, -1, 2**31]),
    "temperature": ([0, 0.0, -0.0, 100], [-1e-9, 100.1, 1e38, NAN, INF, -INF]),
    "top_k": ([0, 2**31 - 1], [-1, 2**31]),
    "top_p": ([0, 1, 0.5], [-0.1, 1.1, NAN]),
    "min_p": ([0, 1], [-0.1, 1.1, NAN]),
    "repeat_penalty": ([0.01, 100], [0, 0.009, 100.1, NAN, INF]),
    "repeat_last_n": ([0, 8192], [-1, 8193]),
    "seed": ([0, 2**32 - 1], [-1, 2**32, 2**64 - 1]),
    "stop": ([[], ["x"], ["x" * 256], ["x"] * 16], [[""], ["x" * 257], ["é" * 129], ["x"] * 17]),
    "logit_bias": (
        [{}, {0: 1e4, 2**31 - 1: -1e4}, dict.fromkeys(range(1024), 0)],
        [{-1: 0}, {2**31: 0}, {1: 1e4 + 1}, {1: NAN}],
    ),
    "deadline_s": ([1e-9, 1, 86_400], [0, -1, 86_400.1, NAN, INF]),
    "credit": ([0, 2**31 - 1], [-1, 2**31]),
    "prompt": (["", [], "\0", [0, 2**31 - 1], "\n" * 100_000], [[-1], [2**31]]),
}
NO_INTEGER: list[object] = [1.0, True, "1"]
NO_NUMBER: list[object] = [True, "1", None, []]
WRONG_TYPES: dict[str, list[object]] = {
    "max_tokens": NO_INTEGER,
    "temperature": NO_NUMBER,
    "top_k": NO_INTEGER,
    "top_p": NO_NUMBER,
    "min_p": NO_NUMBER,
    "repeat_penalty": NO_NUMBER,
    "repeat_last_n": NO_INTEGER,
    "seed": NO_INTEGER,
    "deadline_s": NO_NUMBER,
    "credit": NO_INTEGER,
    "ignore_eos": [0, 1, "true", None],
    "stop": ["x", [1], {"x": 1}],
    "logit_bias": [[], {"1": 1}, {1: "1"}, {1: True}, {None: 1}, {1.5: 1}],
    "prompt": [1, None, b"x", {}, [1.0], [True], ["x"], [[1]]],
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_edges_of_a_range_pass_and_one_beyond_does_not(name: str) -> None:
    allowed, beyond = BOUNDS[name]
    for value in allowed:
        parse_client(complete(**{name: value}))
    for value in beyond:
        error = fault(complete(**{name: value}))
        assert (error.code, error.request_id) == ("invalid_value", 7), value
        assert f"complete.{name}" in str(error)


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_a_wrong_type_is_told_from_a_wrong_value(name: str) -> None:
    for value in WRONG_TYPES[name]:
        error = fault(complete(**{name: value}))
        assert (error.code, error.request_id) == ("invalid_message", 7), value
        assert f"complete.{name}" in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "hello", "protocol": "qwend/1", "client": "x" * 257},
        {"op": "hello", "protocol": "qwend/1", "capabilities": ["x" * 257]},
        {"op": "hello", "protocol": "qwend/1", "capabilities": ["x"] * 65},
        {"op": "hello", "protocol": "x" * 257},
    ],
)
def test_a_stranger_cannot_fill_the_log(fields: dict[str, Any]) -> None:
    assert "at most" in str(fault(fields))


@pytest.mark.parametrize("wrong", [math.inf, math.nan, -1.0])
def test_a_measured_time_is_a_finite_number(wrong: float) -> None:
    timings = {**Timings().to_map(), "ttft_s": wrong}
    with pytest.raises(RemoteProtocolError, match=r"done\.timings\.ttft_s"):
        parse_daemon({**Done(1, "stop", Usage(1, 0, 1)).to_map(), "timings": timings})
    with pytest.raises(RemoteProtocolError, match=r"error\.retry_after_s"):
        parse_daemon({**Error("busy", "later").to_map(), "retry_after_s": wrong})


def test_what_was_given_is_shown_shortened() -> None:
    error = fault({"op": "chat", "id": 1, "messages": "x" * 100_000})
    assert len(str(error)) < 200
    assert "(100,000 characters)" in str(error)


def test_negative_zero_is_zero() -> None:
    message = parse_client(complete(temperature=-0.0))
    assert str(message.to_map()["temperature"]) == "0.0"


def test_a_prefill_has_exactly_one_of_messages_and_prompt() -> None:
    conversation = [{"role": "user", "content": "x"}]
    assert "either" in str(fault({"op": "prefill", "id": 1}))
    assert "either" in str(
        fault({"op": "prefill", "id": 1, "prompt": "x", "messages": conversation})
    )


def test_only_a_prefill_of_messages_is_partial() -> None:
    conversation = [{"role": "user", "content": "x"}]
    asked = {"op": "prefill", "id": 1, "messages": conversation}
    assert parse_client(asked) == parse_client({**asked, "partial": False})
    assert parse_client({**asked, "partial": True}) == Prefill(
        1, messages=(ChatMessage("user", "x"),), partial=True
    )
    error = fault({"op": "prefill", "id": 1, "prompt": "x", "partial": True})
    assert "needs 'messages'" in str(error)


def test_ten_thousand_messages_are_more_than_a_conversation_may_have() -> None:
    conversation = [{"role": "user", "content": "x"}] * 10_000
    with pytest.raises(RemoteProtocolError, match="10,000 maps"):
        decode_payload(encode_frame({"op": "chat", "id": 1, "messages": conversation})[4:])


@given(
    st.sampled_from([vector for vector in vectors() if vector.from_client]),
    st.data(),
    anything,
)
def test_a_message_with_anything_in_a_field_passes_or_is_refused(
    vector: Vector, data: st.DataObject, value: object
) -> None:
    name = data.draw(st.sampled_from(sorted(vector.fields)))
    fields = {**vector.fields, name: value}
    error = outcome(vector, decode_payload(msgpack.packb(fields)))
    assert error is None or error.code in FIELD_CODES


def test_a_message_is_a_value() -> None:
    assert Ping(1) == Ping(1)
    assert len({Ping(1), Ping(1), Ping(2)}) == 2


def test_a_chat_and_a_prefill_of_messages_may_say_whether_to_think() -> None:
    conversation = [{"role": "user", "content": "x"}]
    for op in ("chat", "prefill"):
        asked = {"op": op, "id": 1, "messages": conversation}
        for thinking in (True, False):
            message = parse_client({**asked, "thinking": thinking})
            assert isinstance(message, Chat | Prefill)
            assert message.thinking is thinking
        assert "thinking" not in parse_client(asked).to_map()
    for refused in (
        {"op": "prefill", "id": 1, "prompt": "x"},
        {"op": "complete", "id": 1, "prompt": "x"},
    ):
        assert fault({**refused, "thinking": True}).code == "invalid_message"


def test_a_token_without_reasoning_is_written_as_ever() -> None:
    token = {"op": "token", "id": 1, "index": 0, "ids": [7], "text": "x"}
    assert parse_daemon(token).to_map() == token
    assert parse_daemon({**token, "reasoning": "hm"}) == Token(1, 0, (7,), "x", "hm")


@pytest.mark.parametrize(
    "asked",
    [
        {"op": "chat", "messages": [{"role": "user", "content": "x"}]},
        {"op": "complete", "prompt": "x"},
        {"op": "prefill", "messages": [{"role": "user", "content": "x"}]},
        {"op": "prefill", "prompt": "x"},
    ],
    ids=lambda asked: " of ".join(asked),
)
def test_whatever_is_computed_may_say_how_urgent_it_is(asked: dict[str, Any]) -> None:
    fields = {**asked, "id": 1}
    for priority in ("interactive", "background"):
        message = parse_client({**fields, "priority": priority})
        assert isinstance(message, Chat | Complete | Prefill)
        assert message.priority == priority
    assert "priority" not in parse_client(fields).to_map()
    assert fault({**fields, "priority": "urgent"}).code == "invalid_value"
    assert fault({**fields, "priority": 1}).code == "invalid_message"


def test_what_is_done_at_once_has_no_priority() -> None:
    error = fault({"op": "tokenize", "id": 1, "text": "x", "priority": "background"})
    assert "no field 'priority'" in str(error)
