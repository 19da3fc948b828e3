"""20,000 malformed frames at a real daemon: each is answered, and nobody and nothing else changes.

1. A stream is begun, and a connection whose frames come byte by byte over the whole run.
2. Connection after connection brings a few frames that it survives, a ping, and one that breaks it
   or is cut short, then says no more. Everything that comes back must be a message of the protocol,
   every error has a known code, the ping is answered, and the daemon closes.
3. In between the stream gives token after token. In the end the slow frames are answered, and the
   daemon has as many descriptors and threads as before, and no more memory than it may.

What its company feels of it, `scripts/bench malformed` measures.
"""

from __future__ import annotations

import os
import random
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qwend.client import Token, TokenStream
from qwend.wire import Error, ErrorCode, Pong, Welcome
from qwend.wire.frame import decode_payload
from qwend.wire.messages import DaemonMessage, parse_daemon
from tests.support.daemon import DEADLINE_S, RunningDaemon, running_daemon, wait_until
from tests.wire.malformed import BREAKING, HELLO, NONCE, SURVIVED, VALID, attack, packed

FRAMES = int(os.environ.get("QWEND_TEST_FRAMES", "20000"))
"""A night's run sets a million."""
MEMORY_BYTES = 16 << 20
CODES = {code.value for code in ErrorCode}


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with running_daemon(script={"answer": "x", "endless": True}) as daemon:
        yield daemon


@pytest.mark.row("A1", "A2")
@pytest.mark.timeout(0 if FRAMES > 20_000 else 300)
def test_every_malformed_frame_is_answered_and_nobody_else_notices(daemon: RunningDaemon) -> None:
    seed = int(os.environ.get("QWEND_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QWEND_TEST_SEED={seed}")
    chance = random.Random(seed)
    with daemon.client() as client:
        witness = client.complete("watch", credit=0, max_tokens=2**31 - 1)
        # What is opened once, at the first request that needs it, is open.
        exchange(daemon, HELLO + b"".join(vector.frame for vector in VALID))
        front = psutil.Process(daemon.process.pid)
        descriptors, threads = front.num_fds(), front.num_threads()
        memory_bytes = rss_anon_bytes(front.pid)
        slow = Dribble(daemon)
        tried: Counter[str] = Counter()
        while tried.total() < FRAMES:
            tried += attacked(daemon, chance)
            slow.step()
            if tried.total() % 20 == 0:
                gives_one_more(witness)
        slow.finish()
        gives_one_more(witness)
        assert set(tried) == {*SURVIVED, *BREAKING}
        wait_until(lambda: front.num_fds() <= descriptors, "descriptors are as before")
        # The thread that looks at the machine comes with its first look.
        assert front.num_threads() <= threads + 1
        grown_bytes = rss_anon_bytes(front.pid) - memory_bytes
        print(f"{tried.total():,} frames, memory grew by {grown_bytes / 2**20:.1f} MiB")
        assert grown_bytes <= MEMORY_BYTES
        assert daemon.status()["engine"]["restarts"] == 0
        assert daemon.process.poll() is None


def attacked(daemon: RunningDaemon, chance: random.Random) -> Counter[str]:
    """One connection; return how many inputs of each kind it brought."""
    given = attack(chance)
    first, *others = exchange(daemon, given.sent)
    if given.greeted:
        assert isinstance(first, Welcome)
        assert Pong(NONCE) in others, given.kinds
    elif not isinstance(first, Welcome):  # one of them may be a hello
        assert isinstance(first, Error), given.kinds
        assert not others
    return Counter(given.kinds)


def exchange(daemon: RunningDaemon, sent: bytes) -> list[DaemonMessage]:
    """What comes back until the daemon closes; each is a message of the protocol."""
    received = bytearray()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(DEADLINE_S)
        raw.connect(str(daemon.socket))
        try:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            while data := raw.recv(1 << 18):
                received += data
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had closed before all was sent
    return [*messages_in(bytes(received))]


def messages_in(received: bytes) -> Iterator[DaemonMessage]:
    at = 0
    while at < len(received):
        end = at + 4 + int.from_bytes(received[at : at + 4], "big")
        message = parse_daemon(decode_payload(received[at + 4 : end]))
        assert not isinstance(message, Error) or message.code in CODES
        yield message
        at = end


def gives_one_more(witness: TokenStream) -> None:
    expected = len(witness.text)
    witness.grant(1)
    token = next(event for event in witness.events() if isinstance(event, Token))
    assert token.index == expected


class Dribble:
    """A client whose frames come one byte at a time, over as long as the test takes."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._raw = daemon.raw()
        self._nonce = 0
        self._left = b""

    def step(self) -> None:
        if not self._left:
            self._nonce += 1
            self._left = packed({"op": "ping", "nonce": self._nonce})
        self._raw.send_bytes(self._left[:1])
        self._left = self._left[1:]

    def finish(self) -> None:
        """The last frame is whole: every one was answered, in order."""
        self._raw.send_bytes(self._left)
        answers = self._raw.read_until("pong", nonce=self._nonce)
        self._raw.close()
        assert [one["nonce"] for one in answers] == list(range(1, self._nonce + 1))


def rss_anon_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel says nothing of RssAnon")
