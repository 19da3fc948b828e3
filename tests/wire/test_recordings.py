"""Messages of every version are read by this one."""

from __future__ import annotations

import pytest

from qwend.wire import parse_client, parse_daemon
from qwend.wire.frame import decode_payload
from tests.wire.recordings import Recording, recordings

pytestmark = pytest.mark.row("A5")


@pytest.mark.parametrize("recording", recordings(), ids=str)
def test_every_message_of_a_version_is_still_one(recording: Recording) -> None:
    for one in recording.from_clients:
        assert parse_client(decode_payload(one.frame[4:])).op == one.op
    for one in recording.from_daemons:
        assert parse_daemon(decode_payload(one.frame[4:])).op == one.op


def test_there_is_a_recording_with_every_kind_of_message() -> None:
    (first, *_) = recordings()
    assert first.version == "0.1.0"
    assert {"hello", "chat", "complete", "prefill"} <= {one.op for one in first.from_clients}
    assert {"welcome", "accepted", "token", "done"} <= {one.op for one in first.from_daemons}
