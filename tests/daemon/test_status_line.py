"""What `systemctl status` shows in one line."""

from __future__ import annotations

from itertools import pairwise

import pytest

from qwend.daemon.state import Condition, DaemonState
from qwend.daemon.status_line import status_line
from qwend.engine.events import Gauges
from tests.daemon.fake_systemd import fake_systemd


def gauges(decode_tok_s: float) -> Gauges:
    return Gauges(
        step=1,
        running=0,
        waiting=0,
        used_cells=0,
        prefix_bytes=0,
        decode_tok_s=decode_tok_s,
        prefill_tok_s=0.0,
    )


@pytest.mark.parametrize(
    ("speed", "celsius", "needs_restart", "line"),
    [
        (0.0, None, (), "guide, ready"),
        (22.44, 54.3, (), "guide, ready; 22 tokens/s; 54 °C"),
        (3.21, None, (), "guide, ready; 3.2 tokens/s"),
        (1234.5, -1.0, (), "guide, ready; 1,234 tokens/s; -1 °C"),
        (0.0, None, ("model.name",), "guide, ready; restart to apply model.name"),
    ],
)
def test_model_speed_and_heat(
    speed: float, celsius: float | None, needs_restart: tuple[str, ...], line: str
) -> None:
    state = DaemonState(Condition.READY, "")
    assert status_line("guide", state, gauges(speed), celsius, needs_restart) == line


def test_what_is_done_while_it_is_not_ready() -> None:
    state = DaemonState(Condition.WARMING, "loading 42%")
    assert status_line("guide", state, None, 50.0) == "warming: loading 42%"


def test_a_degraded_one_says_so() -> None:
    state = DaemonState(Condition.READY, "", ["running from disk"])
    assert status_line("guide", state, None, None) == "guide, degraded"


def test_a_start_is_told_in_stages_with_time_to_go_on_and_ready_at_the_end() -> None:
    """The system prompt takes several steps: each one is progress."""
    with fake_systemd() as systemd:
        systemd.start_and_wait(
            {},
            QWEND_ENGINE_UBATCH="64",
            QWEND_CHAT_SYSTEM_PROMPT='"' + "x" * 600 + '"',
        )
        # Before them: where connections and requests are noted.
        *stages, ready = systemd.said[2:]
        assert ready[0] == "READY=1"
        for message in stages:
            assert message[0].startswith("STATUS=")
            assert message[1].startswith("EXTEND_TIMEOUT_USEC=")
        told = [message[0].removeprefix("STATUS=") for message in stages]
        assert told[:2] == ["loading", "calibrating"]
        assert [one for one in told if one.startswith("pre-filling the system prompt ")][0:2]


def test_the_line_follows_the_state_and_is_not_repeated() -> None:
    with fake_systemd() as systemd:
        systemd.start_and_wait({"step_s": 0.001}, QWEND_LIMITS_DRAIN_S="0.1")
        with systemd.client() as client:
            client.send({"op": "complete", "id": 1, "prompt": "hello", "max_tokens": 50})
            client.read_until("done")
            systemd.until(lambda: "tokens/s" in systemd.statuses()[-1], "it says how quick it is")
        statuses = systemd.statuses()
        assert all(one != after for one, after in pairwise(statuses))
        systemd.stop()
        assert systemd.statuses()[-1].startswith("draining")
