"""The engine dies by any signal in any stage of an answer; the answer is as undisturbed.

With the built-in model, greedily. QWEND_TEST_DEATHS sets how many.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until

pytestmark = [pytest.mark.llama, pytest.mark.row("F1")]
DEATHS = int(os.environ.get("QWEND_TEST_DEATHS", "4"))
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGTERM)
STAGES = ("idle", "prefill", "first token", "decode")
# More deaths than five in a minute are the end: each daemon sees fewer.
OF_A_DAEMON = 4
QUESTION = "Tell me about qwend. " * 8


def ask(client: RawClient, request_id: int) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    fields = {"op": "chat", "id": request_id, "messages": messages, "temperature": 0.0}
    client.send({**fields, "max_tokens": 24})


def told(client: RawClient) -> Iterator[dict[str, Any]]:
    """The messages of one request, to its end."""
    while message := client.read():
        yield message
        if message["op"] in ("done", "error"):
            return


def answer(client: RawClient, daemon: RunningDaemon, stage: str, number: int) -> tuple[str, float]:
    """The text of an answer whose engine dies in this stage, and how long after that it went on."""
    if stage == "idle":
        os.kill(daemon.engine_pid(), number)
    pid = 0 if stage == "idle" else daemon.engine_pid()
    killed = time.monotonic() if stage == "idle" else 0.0
    ask(client, 1)
    if stage == "prefill":
        os.kill(pid, number)
        killed = time.monotonic()
    ids: list[int] = []
    text, went_on = "", 0.0
    for message in told(client):
        assert message["op"] != "error", message
        if message["op"] != "token":
            continue
        assert message["index"] == len(ids), "a token is missing, or told twice"
        ids += message["ids"]
        text += message["text"]
        if killed and not went_on:
            went_on = time.monotonic()
        if not killed and len(ids) >= (1 if stage == "first token" else 6):
            os.kill(pid, number)
            killed = time.monotonic()
    return text, went_on - killed


@pytest.mark.timeout(60 + 10 * DEATHS)
def test_an_answer_is_the_same_whatever_kills_its_engine_and_when() -> None:
    draw = random.Random(1)
    took = []
    done = 0
    while done < DEATHS:
        with running_daemon(QWEND_ENGINE_BACKEND="llama") as daemon, daemon.raw() as client:
            ask(client, 1)
            expected = "".join(one["text"] for one in told(client) if one["op"] == "token")
            assert expected
            for at in range(min(OF_A_DAEMON, DEATHS - done)):
                stage, number = STAGES[(done + at) % len(STAGES)], draw.choice(SIGNALS)
                text, seconds = answer(client, daemon, stage, number)
                assert text == expected, f"{number.name} in {stage}"
                took.append(seconds)
                wait_until(
                    lambda at=at: daemon.status()["engine"]["restarts"] == at + 1, "it is counted"
                )
                wait_until(lambda: daemon.status()["state"] != "warming", "it is ready again")
            done += min(OF_A_DAEMON, DEATHS - done)
    print(
        f"{done} deaths: the answer went on {statistics.median(took):.2f} s later, "
        f"{max(took):.2f} s at most"
    )
