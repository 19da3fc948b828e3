"""A front that is killed takes its engine along, whatever that is doing.

QWEND_TEST_FRONTS sets how many.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
import pytest

from tests.daemon.fake_systemd import fake_systemd
from tests.support.daemon import wait_until

pytestmark = pytest.mark.row("D5")
FRONTS = int(os.environ.get("QWEND_TEST_FRONTS", "4"))
# What the engine does at the kill: the script of it, and a request.
DOING: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "nothing": ({}, None),
    "decode": ({"endless": True, "step_s": 0.002}, {"prompt": "hello", "max_tokens": 100_000}),
    "prefill": ({"step_s": 0.2}, {"prompt": "hello " * 400, "max_tokens": 1}),
    # Decode 10 is the first of a request: its tokens 0 to 5 are told, then it hangs.
    "a hang": ({"endless": True, "hang_at_step": 16}, {"prompt": "hello", "max_tokens": 100}),
}


def is_gone(process: psutil.Process) -> bool:
    """Whoever has inherited it may not have looked after it yet: a zombie holds nothing."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.timeout(60 + 5 * FRONTS)
def test_no_engine_outlives_its_front() -> None:
    gone_s = []
    with fake_systemd() as systemd:
        for number in range(FRONTS):
            what = list(DOING)[number % len(DOING)]
            script, request = DOING[what]
            systemd.start_and_wait(script, FDSTORE="")
            assert systemd.process is not None
            with systemd.client() as client:
                if request is not None:
                    client.send({"op": "complete", "id": 1, **request})
                    if what == "prefill":
                        client.read_until("progress")
                    else:
                        client.read_until("token", index=5)
                engines = psutil.Process(systemd.process.pid).children(recursive=True)
                assert engines
                systemd.process.kill()
                killed = time.monotonic()
                wait_until(lambda all_=engines: all(map(is_gone, all_)), f"it is gone from {what}")
                gone_s.append(time.monotonic() - killed)
                assert client.read_to_the_end() is not None
            systemd.process.wait()
            systemd.listen()
    print(f"{FRONTS} fronts: no engine {max(gone_s) * 1e3:.0f} ms after the kill, at most")
