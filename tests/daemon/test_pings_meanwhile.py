"""While an engine is stopped, spins, or prefills for long, the front answers everybody else."""

from __future__ import annotations

import os
import signal
import statistics
import time
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, running_daemon

pytestmark = pytest.mark.row("F3")
QUICK = {"QWEND_ENGINE_HUNG_AFTER_S": "0.5", "QWEND_CHAT_SYSTEM_PROMPT": '""'}
# Decode 9 is the first of a request: 8 are the calibration's.
HANGS: dict[str, Any] = {"hang_at_step": 9}
PREFILLS: dict[str, Any] = {"step_s": 0.03}


def pings_until_an_end(
    daemon: RunningDaemon, request_id: int
) -> tuple[dict[str, Any], list[float]]:
    """The end of a request, and how long each ping of the same and of another client took."""
    took = []
    with daemon.raw() as asking, daemon.client() as other:
        prompt = "x" * 800
        asking.send({"op": "complete", "id": request_id, "prompt": prompt, "max_tokens": 1})
        while True:
            took.append(other.ping())
            for message in asking.ping():
                if message["op"] in ("done", "error"):
                    return message, took


@pytest.mark.parametrize("what", ["hangs", "is stopped", "prefills"])
def test_everybody_else_is_answered_while_the_engine(what: str) -> None:
    script = {"hangs": HANGS, "is stopped": {}, "prefills": PREFILLS}[what]
    with running_daemon(script=script, QWEND_ENGINE_UBATCH="8", **QUICK) as daemon:
        if what == "is stopped":
            os.kill(daemon.engine_pid(), signal.SIGSTOP)
        begin = time.monotonic()
        end, took = pings_until_an_end(daemon, 1)
        seconds = time.monotonic() - begin
        if what == "prefills":
            assert end["op"] == "done"
            assert daemon.status()["engine"]["restarts"] == 0
        elif end["op"] == "error":
            assert end["code"] in ("engine_lost", "poison_request")
    assert len(took) > 10
    p99 = statistics.quantiles(took, n=100)[98]
    print(f"{what}: over after {seconds:.2f} s; {len(took)} pings, p99 {p99 * 1e3:.1f} ms")
