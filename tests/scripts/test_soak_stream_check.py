"""The judge of streams, with streams that were doctored."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.lib.soak.oracle import Answer
from scripts.lib.soak.stream_check import StreamCheck

ANSWER = Answer((11, 12, 13), (b"one", b" tw\xc3", b"\xb6"), "stop")
ACCEPTED = {"op": "accepted", "prompt_tokens": 3, "cached_tokens": 0}


def token(index: int, *ids: int, text: str = "") -> dict[str, Any]:
    return {"op": "token", "index": index, "ids": list(ids), "text": text}


def progress(stage: str) -> dict[str, Any]:
    return {"op": "progress", "stage": stage, "done": 0, "total": 1}


def done(count: int, reason: str = "stop") -> dict[str, Any]:
    return {"op": "done", "finish_reason": reason, "usage": {"completion_tokens": count}}


RIGHT = [ACCEPTED, token(0, 11, text="one"), token(1, 12, text=" tw"), token(2, 13, text="ö")]


def checked(
    *messages: dict[str, Any], answer: Answer | None = ANSWER, most: int = 9
) -> StreamCheck:
    check = StreamCheck(answer, most)
    for message in messages:
        check.feed(message)
    return check


def test_the_right_stream_has_no_fault() -> None:
    check = checked(progress("queued"), *RIGHT, done(3))
    assert check.faults == []
    assert check.how == "done:stop"


def test_a_stream_that_was_recovered_has_no_fault() -> None:
    check = checked(*RIGHT[:2], progress("recovering"), progress("prefill"), *RIGHT[2:], done(3))
    assert check.faults == []
    assert check.recoveries == 1


def test_two_tokens_in_one_message_are_right() -> None:
    check = checked(ACCEPTED, token(0, 11, 12, text="one tw"), token(2, 13, text="ö"), done(3))
    assert check.faults == []


@pytest.mark.parametrize("reason", ["cancelled"])
def test_a_beginning_of_the_answer_is_right_for_one_that_was_cancelled(reason: str) -> None:
    assert checked(*RIGHT[:2], done(1, reason)).faults == []


@pytest.mark.parametrize(
    ("fault", "messages"),
    [
        ("repeated", [*RIGHT[:2], token(0, 11, text="one")]),
        ("a gap", [*RIGHT[:2], token(2, 13, text="ö")]),
        ("instead of [12]", [*RIGHT[:2], token(1, 99)]),
        ("instead of []", [*RIGHT, token(3, 11)]),
        ("is not that of the answer", [ACCEPTED, token(0, 11, text="two")]),
        ("is not that of the answer", [*RIGHT[:2], token(1, 12, text="one tw")]),
        ("the text ended early", [ACCEPTED, token(0, 11, 12, 13, text="one"), done(3)]),
        ("2 tokens instead of 3", [*RIGHT[:3], done(2)]),
        ("done counts 3 tokens, and 2 came", [*RIGHT[:3], done(3, "cancelled")]),
        ("ended with length instead of stop", [*RIGHT, done(3, "length")]),
        ("done after the end", [*RIGHT, done(3), done(3)]),
        ("error after the end", [*RIGHT, done(3), {"op": "error", "code": "internal"}]),
        ("token after the end", [*RIGHT, done(3), token(3, 14)]),
        ("accepted twice", [ACCEPTED, *RIGHT]),
        ("accepted after a token", [*RIGHT, ACCEPTED]),
        ("a token before accepted", RIGHT[1:]),
        ("progress (prefill) after 3 tokens", [*RIGHT, progress("prefill")]),
        ("pong is no message of a request", [{"op": "pong"}]),
    ],
)
def test_a_doctored_stream_is_found(fault: str, messages: list[dict[str, Any]]) -> None:
    assert any(fault in one for one in checked(*messages).faults)


def test_more_tokens_than_were_asked_for_are_found() -> None:
    check = checked(ACCEPTED, token(0, 1, 2, 3), answer=None, most=2)
    assert check.faults == ["3 tokens of at most 2"]


def test_an_unknown_answer_is_judged_by_its_order_alone() -> None:
    assert checked(ACCEPTED, token(0, 7, text="x"), done(1, "length"), answer=None).faults == []
    assert checked(ACCEPTED, token(1, 7, text="x"), answer=None).faults != []


def test_an_answer_that_was_asked_again_begins_at_its_first_token() -> None:
    check = checked(*RIGHT[:3])
    check.begin_anew()
    for message in (*RIGHT, done(3)):
        check.feed(message)
    assert check.faults == []


def test_an_answer_that_goes_on_over_another_connection_is_accepted_there_again() -> None:
    check = checked(*RIGHT[:3])
    check.resumed()
    for message in (ACCEPTED, *RIGHT[3:], done(3)):
        check.feed(message)
    assert check.faults == []


def test_what_was_said_before_is_a_repetition_over_another_connection_too() -> None:
    check = checked(*RIGHT[:3])
    check.resumed()
    check.feed(ACCEPTED)
    check.feed(RIGHT[2])
    assert any("repeated" in fault for fault in check.faults)
