"""What the client library does with sessions beyond what the wire says."""

from __future__ import annotations

import pytest

from qwend.client import ConnectionLost
from qwend.client.recovery import Recovery
from qwend.wire import Chat, ChatMessage, Complete


def test_a_turn_of_a_session_is_not_asked_again_for_it_may_have_been_kept() -> None:
    messages = (ChatMessage("user", "Where?"),)
    recovery = Recovery(lambda id_: Chat(id_, messages, session="trip"))
    with pytest.raises(ConnectionLost, match="look whether session 'trip' has this turn"):
        recovery.ask_again()


def test_what_nobody_keeps_is_asked_again_under_another_key() -> None:
    for recovery in (
        Recovery(lambda id_: Chat(id_, (ChatMessage("user", "Where?"),))),
        Recovery(lambda id_: Complete(id_, "Once")),
    ):
        before = recovery.request(1).generation.resume
        recovery.ask_again()
        assert recovery.request(1).generation.resume != before
