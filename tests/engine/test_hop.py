"""What crosses the hop comes out as it went in: events, requests, settings, of any size."""

from __future__ import annotations

from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine import hop
from qwend.engine.events import (
    Alive,
    CannotStart,
    Event,
    Failed,
    Finished,
    Gauges,
    Loading,
    Prefilling,
    Produced,
    Queued,
    Ready,
    Started,
    event_from_map,
    event_to_map,
)
from qwend.engine.request import ChatTurn, EngineRequest, Kind, SamplingParams, Thinking
from qwend.engine.settings import EngineStart
from tests.support.engine import ask, user

EVENTS: tuple[Event, ...] = (
    Loading("loading", 0.5),
    Ready({"threads": 2, "step_ms": {1: 0.5, 4: 1.0}}),
    CannotStart("model_error", "no such file"),
    Queued(1, 3),
    Started(1, 100, 40, 100.5),
    Prefilling(1, 64, 100),
    Produced(1, 7, (1, 2, 3), "aé😀", 12.5),
    Produced(1, 7, (1, 2, 3), "", 12.5, "Hm é"),
    Finished(1, "stop", 9, 4, 3, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 42),
    Finished(1, "tokenized", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, tokens=(5, 6)),
    Failed((1 << 63) - 1, "context_exceeded", "too long"),
    Gauges(9, 1, 2, 300, 1 << 40, 50.5, 200.25),
    Alive(working=True),
)
REQUESTS = (
    ask("text", stop=("a", "é"), parse_special=True),
    ask([0, 1, 151_935]),
    ask((ChatTurn("system", ""), ChatTurn("user", "hi\n<|im_end|>"))),
    ask(user("x"), kind=Kind.PREFILL),
    *(ask(user("x"), thinking=thinking) for thinking in Thinking),
    ask("x", kind=Kind.TOKENIZE),
    ask(
        "x",
        sampling=SamplingParams(
            1.5, 0, 1.0, 0.05, 1.1, 8192, (1 << 32) - 1, ((3, -1e4), (7, 0.5)), True
        ),
    ),
)


def across(message: dict[str, Any]) -> dict[str, Any]:
    assembler = hop.Assembler()
    *parts, last = list(hop.packets(message))
    for part in parts:
        assert assembler.feed(part) is None
    arrived = assembler.feed(last)
    assert arrived is not None
    return arrived


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: type(one).__name__)
def test_an_event_comes_out_as_it_went_in(event: Event) -> None:
    assert event_from_map(event_to_map(event)) == event
    assert hop.read_events(across(hop.events([event]))) == [event]


def test_every_kind_of_event_is_tried_here() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda one: str(one.kind))
def test_a_request_comes_out_as_it_went_in(request_: EngineRequest) -> None:
    arrived = EngineRequest.from_map(across(hop.submit(request_))["request"])
    assert arrived == request_
    assert hash(arrived) == hash(request_)


def test_settings_come_out_as_they_went_in() -> None:
    settings = EngineStart("scripted", "/m", cpus=(0, 2), script={"answer": "x", "step_s": 0.5})
    assert EngineStart.from_map(across(hop.start(settings))["settings"]) == settings


def test_the_small_messages_say_what_to_do() -> None:
    assert across(hop.cancel(7)) == {"do": "cancel", "id": 7}
    assert across(hop.grant(7, 64)) == {"do": "grant", "id": 7, "tokens": 64}
    assert across(hop.limit(2)) == {"do": "limit", "threads": 2}
    assert across(hop.shrink(1 << 40)) == {"do": "shrink", "bytes": 1 << 40}
    assert across(hop.ping()) == {"do": "ping"}
    assert across(hop.stop()) == {"do": "stop"}


@pytest.mark.parametrize("size", [100, 32 * 1024, 33 * 1024, 1 << 20, 4 << 20])
def test_a_message_of_any_size_crosses_in_packets_that_fit(size: int) -> None:
    request = ask("é" * (size // 2))
    packets = list(hop.packets(hop.submit(request)))
    assert all(len(packet) <= hop.PACKET_BYTES + 1 for packet in packets)
    assert [packet[:1] for packet in packets] == [*[hop.MORE] * (len(packets) - 1), hop.LAST]
    assert EngineRequest.from_map(across(hop.submit(request))["request"]) == request


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_message_that_just_fills_its_packets_has_no_empty_one_after_it(over: int) -> None:
    frame = len(msgpack.packb({"do": "x", "pad": b"x" * hop.PACKET_BYTES})) - hop.PACKET_BYTES
    message = {"do": "x", "pad": b"x" * (2 * hop.PACKET_BYTES - frame + over)}
    packets = list(hop.packets(message))
    assert len(packets) == (3 if over > 0 else 2)
    assert across(message) == message


@given(st.lists(st.binary(max_size=70_000), min_size=1, max_size=4))
def test_messages_in_a_row_do_not_mix(pads: list[bytes]) -> None:
    messages = [{"do": "x", "pad": pad} for pad in pads]
    assembler = hop.Assembler()
    arrived = [assembler.feed(packet) for one in messages for packet in hop.packets(one)]
    assert [one for one in arrived if one is not None] == messages
