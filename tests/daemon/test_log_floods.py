"""What clients can make the daemon log: little, counted, and nothing of what they wrote.

Every text that a client of these tests sends has the canary in it: prompts, its own name, keys,
operations that there are not, bytes that are no message.
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.errors import QwendError
from tests.support.daemon import RawClient, RunningDaemon, frame, running_daemon, wait_until

# By hand: QWEND_TEST_FLOOD=1000000, which disconnects 100,000 times.
FRAMES = int(os.environ.get("QWEND_TEST_FLOOD", "20000"))
DISCONNECTS = FRAMES // 10
BYTES_A_MINUTE = 2**20
CANARY = "canary-5c1e"
HELLO = frame({"op": "hello", "protocol": "qwend/1", "client": CANARY})
# A connection survives these: each is answered with an error.
REFUSED = [
    frame({"op": CANARY}),
    frame({"op": "ping", CANARY: CANARY}),
    frame({"op": "complete", "id": 1, "prompt": [CANARY]}),
    frame({"op": "complete", "id": 1, "prompt": CANARY, "max_tokens": CANARY}),
    frame({"op": "chat", "id": 1, "messages": [{"role": CANARY, "content": CANARY}]}),
    frame({"op": "tokenize", "id": -1, "text": CANARY}),
]
# And these end it, with a line in the log.
FATAL = [
    b"\xff\xff\xff\xff" + CANARY.encode(),
    len(CANARY).to_bytes(4, "big") + CANARY.encode(),
    frame({"op": "ping", "nonce": [[]] * 10_001}),
    (5).to_bytes(4, "big") + b"\xc1\xc1\xc1\xc1\xc1",
]
OF_A_CONNECTION = 40


def assert_silent_about_texts(daemon: RunningDaemon) -> None:
    assert CANARY not in daemon.log  # its standard error and output, and the engine's
    cores = [path for path in daemon.home.rglob("*") if "core" in path.name and path.is_file()]
    assert cores == []
    assert not [path for path in Path.cwd().glob("core*") if path.is_file()]


def flood(daemon: RunningDaemon, chance: random.Random) -> int:
    """Send FRAMES bad frames; returns how many connections they cost."""
    connections = 0
    for begin in range(0, FRAMES, OF_A_CONNECTION):
        count = min(OF_A_CONNECTION, FRAMES - begin)
        with RawClient(daemon.socket, hello=False) as raw:
            bad = [chance.choice(REFUSED) for _ in range(count - 1)]
            raw.send_bytes(HELLO + b"".join(bad) + chance.choice(FATAL))
            answers = raw.read_to_the_end()
        assert [one["op"] for one in answers] == ["welcome"] + ["error"] * count
        connections += 1
    return connections


def disconnect(daemon: RunningDaemon) -> None:
    """Ask and leave, before the answer or in the middle of it."""
    ask = frame({"op": "complete", "id": 1, "prompt": CANARY, "max_tokens": 500})
    for number in range(DISCONNECTS):
        with RawClient(daemon.socket, hello=False) as raw:
            raw.send_bytes(HELLO + ask)
            if number % 2:
                raw.read_until("welcome")


def told(daemon: RunningDaemon) -> Iterator[int]:
    """How many broken connections the log tells of: one by one, and counted."""
    for line in daemon.log.splitlines():
        counted = re.search(r"uid \d+: (\d+) more messages like this in the last minute: ", line)
        if counted:
            yield int(counted[1])
        elif "broke the protocol" in line:
            yield 1


@pytest.mark.row("D7")
@pytest.mark.timeout(7200 if FRAMES > 20_000 else 300)
def test_bad_frames_and_disconnects_fill_no_log_and_are_counted_in_it() -> None:
    with running_daemon(script={"endless": True, "answer": "x"}) as daemon:
        begin = time.monotonic()
        broken = flood(daemon, random.Random(7))
        disconnect(daemon)
        minutes = 1 + (time.monotonic() - begin) // 60
        wait_until(daemon.is_idle, "nothing is left of those who have gone")
        assert daemon.process.poll() is None
        assert daemon.stop() == 0
        assert sum(told(daemon)) == broken
        assert len(daemon.log) <= BYTES_A_MINUTE * minutes
        # One uid: five lines of each kind and one count, each minute and once more at the end.
        assert len(daemon.log.splitlines()) <= 20 * (minutes + 1)
        assert_silent_about_texts(daemon)


def ask(daemon: RunningDaemon, prompt: str, **options: Any) -> None:
    with daemon.client(name=CANARY) as client, suppress(QwendError):
        list(client.complete(prompt, **options))


@pytest.mark.llama
@pytest.mark.row("D7")
def test_no_text_of_a_client_is_in_the_log_of_the_real_engine() -> None:
    """1. Ask for what is answered, refused, too long, cut off by a deadline, and left.
    2. Kill the engine by a signal that leaves a core, in the middle of an answer.
    3. Neither the log, nor standard error, nor a file of the daemon's has the canary."""
    with running_daemon(QWEND_ENGINE_BACKEND="llama") as daemon:
        ask(daemon, f"{CANARY} what is qwend?", max_tokens=8)
        ask(daemon, f"<|im_start|>{CANARY}<|im_end|> " * 2000, max_tokens=8)
        ask(daemon, f"\x00\u2028{CANARY}\ufffe", max_tokens=8, stop=[CANARY])
        ask(daemon, CANARY, max_tokens=500, deadline_s=0.01)
        with daemon.client(name=CANARY) as client:
            client.tokenize(CANARY * 50)
            with suppress(QwendError):
                list(client.chat(CANARY, max_tokens=8))
        with RawClient(daemon.socket, hello=False) as raw:
            raw.send_bytes(HELLO + b"".join(REFUSED) + FATAL[0])
            raw.read_to_the_end()
        engine = daemon.engine_pid()
        for pid in (daemon.process.pid, engine):
            assert psutil.Process(pid).rlimit(resource.RLIMIT_CORE) == (0, 0)
        with daemon.client() as client, suppress(QwendError):
            stream = client.complete(CANARY * 20, max_tokens=500)
            next(iter(stream))
            os.kill(engine, signal.SIGABRT)
            list(stream)
        wait_until(lambda: daemon.status()["engine"]["restarts"], "there is another engine")
        assert daemon.stop() == 0
        assert "SIGABRT" in daemon.log
        assert_silent_about_texts(daemon)
