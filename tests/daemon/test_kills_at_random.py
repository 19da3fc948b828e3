"""Engine and front are killed at any moment; what is kept on disk is whole, or is not there.

1. The guide's answers are noted while nothing disturbs it. 2. Again and again: programs ask, and at
a random moment, also of a start or a stop, engine, front or both get SIGKILL. 3. Every snapshot is
whole as the kill has left it. 4. The next start is ready, has removed what was half-written, and
gives the same answers, cached or not.
QWEND_TEST_KILLS sets how many, QWEND_TEST_SEED which moments.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from qwend.engine.snapshot import read
from tests.daemon.fake_systemd import FakeSystemd, fake_systemd
from tests.support.daemon import RawClient, wait_until

pytestmark = [pytest.mark.llama, pytest.mark.row("C1")]
KILLS = int(os.environ.get("QWEND_TEST_KILLS", "6"))
QUESTIONS = ("What is qwend?", "How do I start it?", "Who are you?")
# As little memory for idle prefixes as can be set: after some prompts they go to the disk.
SETTINGS: dict[str, Any] = {"QWEND_ENGINE_BACKEND": "llama", "QWEND_CACHE_PREFIX_MB": "1"}
# A start takes about this long: a kill within it hits the warm copy, the load or the calibration.
START_S = 1.0
KINDS = ("engine", "stop", "front", "stop", "both", "start")


class Victim:
    """The daemon, started over and over in one home."""

    def __init__(self, systemd: FakeSystemd, draw: random.Random) -> None:
        self.systemd = systemd
        self.draw = draw
        self.ready_s: list[float] = []

    @property
    def prefixes(self) -> Path:
        return self.systemd.home / "state" / "engine" / "prefixes"

    def start(self) -> None:
        begin = time.monotonic()
        self.systemd.start_and_wait(**SETTINGS)
        self.ready_s.append(time.monotonic() - begin)

    def kill(self, what: str) -> None:
        """At a moment that is drawn: no condition is waited for."""
        if what == "engine":
            time.sleep(self.draw.uniform(0, 0.5))
            self.kill_the_engine()
            return
        if what == "stop":  # what is idle goes to the disk in it
            assert self.systemd.process is not None
            self.answers()
            self.systemd.process.terminate()
            time.sleep(self.draw.uniform(0, 0.2))
        elif what == "start":
            self.kill_the_front(with_the_engine=True)
            self.systemd.start(**SETTINGS)
            time.sleep(self.draw.uniform(0, START_S))
        else:
            time.sleep(self.draw.uniform(0, 0.5))
        self.kill_the_front(with_the_engine=what == "both")

    def kill_the_front(self, *, with_the_engine: bool) -> None:
        process = self.systemd.process
        assert process is not None
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for child in children if with_the_engine else ():
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
        wait_until(lambda: all(map(is_gone, children)), "no engine without its front")
        self.systemd.listen()
        self.systemd.drop_store()

    def kill_the_engine(self) -> None:
        with self.client() as client:
            client.send({"op": "status"})
            status = client.read_until("status")[-1]["status"]
        with suppress(ProcessLookupError):
            os.kill(status["engine"]["pid"], 9)

    def client(self) -> RawClient:
        return self.systemd.client()

    def answers(self) -> list[str]:
        with self.client() as client:
            return [answer(client, question) for question in QUESTIONS]

    def whole_snapshots(self) -> int:
        """How many there are. Raises: SnapshotError for one that is not whole."""
        count = 0
        for path in self.prefixes.glob("[0-9a-f]*.snapshot") if self.prefixes.exists() else ():
            with path.open("rb") as file:
                read(file)
            count += 1
        return count

    def leftovers(self) -> list[Path]:
        copies = self.systemd.home / "run" / "model"
        return [*self.prefixes.glob(".tmp-*"), *copies.glob(".tmp-*")]


def is_gone(process: psutil.Process) -> bool:
    """Whoever has inherited it may not have looked after it yet: a zombie does nothing."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def answer(client: RawClient, question: str) -> str:
    """The answer, asked for again as long as the engine is lost."""
    while True:
        said, end = attempt(client, question)
        if end["op"] == "done":
            return said
        assert end["code"] == "engine_lost", end


def attempt(client: RawClient, question: str) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": question}]
    client.send({"op": "chat", "id": 1, "messages": messages, "max_tokens": 12, "temperature": 0.0})
    said = ""
    while message := client.read():
        if message["op"] == "token":
            said += message["text"]
        if message["op"] in ("done", "error"):
            return said, message
    raise AssertionError("the connection ended without an end of the request")


@pytest.fixture
def victim() -> Iterator[Victim]:
    seed = int(os.environ.get("QWEND_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QWEND_TEST_SEED={seed}")
    with fake_systemd() as systemd:
        yield Victim(systemd, random.Random(seed))


@pytest.mark.timeout(120 + 10 * KILLS)
def test_no_kill_leaves_a_half_snapshot_or_changes_an_answer(victim: Victim) -> None:
    draw = victim.draw
    victim.start()
    expected = victim.answers()
    most = 0
    for number in range(KILLS):
        what = KINDS[number % len(KINDS)]
        with victim.client() as load:
            for at in range(4):
                words = " ".join(draw.choices(("a", "word", "of", "qwend", "more"), k=60))
                load.send({"op": "complete", "id": at, "prompt": words, "max_tokens": 8})
            victim.kill(what)
        most = max(most, victim.whole_snapshots())
        if what != "engine":
            victim.start()
            assert victim.leftovers() == []
        assert victim.answers() == expected
    assert most > 0, "nothing was ever written: the kills have hit nothing"
    print(
        f"{KILLS} kills; up to {most} snapshots, all whole; ready after "
        f"{statistics.median(victim.ready_s):.2f} s, at most {max(victim.ready_s):.2f} s"
    )
