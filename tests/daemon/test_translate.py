"""Each event of the engine, as the client is told of it."""

from __future__ import annotations

import pytest

from qwend.daemon.translate import as_message
from qwend.engine.events import (
    Event,
    Failed,
    Gauges,
    Loading,
    Prefilling,
    Produced,
    Queued,
    Ready,
    Started,
)
from qwend.wire import limits
from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.replies import Accepted, Done, Progress, Token
from qwend.wire.usage import Timings, Usage
from tests.daemon.fakes import finished

TIMINGS = Timings(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Queued(5, 3), Progress(9, "queued", 0, 3)),
        (Started(5, 12, 4, 100.5), Accepted(9, 12, 4)),
        (Prefilling(5, 4, 12), Progress(9, "prefill", 4, 12)),
        (Produced(5, 2, (7, 8), "hi", 1.0), Token(9, 2, (7, 8), "hi")),
        (Produced(5, 2, (7,), "hi", 1.0, "hm"), Token(9, 2, (7,), "hi", "hm")),
        (finished(5, "length"), Done(9, "length", Usage(5, 2, 1), TIMINGS, seed=7)),
        (Failed(5, "context_exceeded", "too long"), Error("context_exceeded", "too long", id=9)),
    ],
)
def test_the_client_is_told_under_its_own_id(event: Event, message: DaemonMessage) -> None:
    assert as_message(9, event) == message


def test_joules_are_part_of_what_a_request_used() -> None:
    message = as_message(9, finished(5, "length"), 12.5)
    assert message == Done(9, "length", Usage(5, 2, 1, 12.5), TIMINGS, seed=7)


def test_the_answer_to_tokenize_has_tokens_and_no_timings() -> None:
    message = as_message(9, finished(5, "tokenized", tokens=(1, 2)))
    assert message == Done(9, "tokenized", Usage(5, 2, 1), tokens=(1, 2))


def test_more_tokens_than_a_message_can_carry_are_an_error_of_that_request() -> None:
    most = limits.ARRAY_ENTRIES
    assert isinstance(as_message(9, finished(5, "tokenized", tokens=(1,) * most)), Done)
    message = as_message(9, finished(5, "tokenized", tokens=(1,) * (most + 1)))
    assert isinstance(message, Error)
    assert (message.code, message.id) == ("invalid_value", 9)


@pytest.mark.parametrize(
    "event", [Loading("loading", 0.5), Ready({}), Gauges(1, 0, 0, 0, 0, 0.0, 0.0)]
)
def test_what_is_of_no_request_is_not_told(event: Event) -> None:
    assert as_message(9, event) is None
