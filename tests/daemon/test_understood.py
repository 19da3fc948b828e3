"""A client is told what it has said that it knows, and nothing else."""

from __future__ import annotations

import pytest

from qwend.daemon.understood import as_understood
from qwend.wire.messages import DaemonMessage
from qwend.wire.replies import Done, Progress, Token
from qwend.wire.usage import Usage


@pytest.mark.parametrize(
    ("message", "without", "capability"),
    [
        (Token(1, 0, (5,), "a", "hm"), Token(1, 0, (5,), "a"), "reasoning"),
        (Token(1, 0, (), "", "hm"), None, "reasoning"),
        (Progress(1, "recovering", 3, 0), None, "recovering"),
        (
            Done(1, "stop", Usage(1, 0, 1, 2.5)),
            Done(1, "stop", Usage(1, 0, 1)),
            "energy",
        ),
    ],
)
def test_what_came_later_is_for_those_who_know_it(
    message: DaemonMessage, without: DaemonMessage | None, capability: str
) -> None:
    assert as_understood(message, ()) == without
    assert as_understood(message, (capability,)) == message


@pytest.mark.parametrize("message", [Token(1, 0, (5,), "a"), Progress(1, "queued", 0, 2)])
def test_what_everybody_knows_is_for_everybody(message: DaemonMessage) -> None:
    assert as_understood(message, ()) == message
