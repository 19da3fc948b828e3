"""Every call into llama.cpp comes from the one thread that owns the context.

A second one ends the process (ggml-cpu/ops.cpp), so the engine's loop runs here over its real hop,
with its writer of snapshots, while four threads of a front ask, cancel and grant as they like; and
each native function notes who calls it.
"""

from __future__ import annotations

import random
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.engine import hop
from qwend.engine.events import Failed, Finished
from qwend.engine.hop_socket import HopSocket
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.request import EngineRequest, Kind, SamplingParams
from qwend.engine.worker import Worker
from tests.support.daemon import DEADLINE_S
from tests.support.tiny_model import settings

pytestmark = [pytest.mark.llama, pytest.mark.row("F8")]
FRONTS, REQUESTS = 4, 12


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """Native function -> the threads that have called it."""
    found: dict[str, set[int]] = defaultdict(set)

    def noted(name: str, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            found[name].add(threading.get_ident())
            return function(*arguments)

        return call

    for name in dir(llama_cpp):
        function = getattr(llama_cpp, name)
        # The bindings' types and constants are called llama_ too.
        if name.startswith("llama_") and callable(function) and not isinstance(function, type):
            monkeypatch.setattr(llama_cpp, name, noted(name, function))
    return found


class Front:
    """The other end of the hop: any thread may send, one reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()
        self._assembler = hop.Assembler()

    def send(self, message: dict[str, Any]) -> None:
        with self._lock:
            for packet in hop.packets(message):
                self._socket.sendall(packet)

    def read(self) -> Iterator[Any]:
        while packet := self._socket.recv(hop.PACKET_BYTES + 1):
            message = self._assembler.feed(packet)
            if message is not None:
                yield from hop.read_events(message)


def test_four_threads_ask_and_one_calls_llama_cpp(
    tiny_model: Path, tmp_path: Path, callers: dict[str, set[int]]
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(DEADLINE_S)
    start = settings(
        tiny_model,
        kept_dir=str(tmp_path),
        fingerprint="tiny",
        disk_bytes=1 << 20,
        prefix_bytes=50_000,
    )
    engine = threading.Thread(target=Worker(HopSocket(theirs)).run, name="engine")
    with ours, theirs:
        front = Front(ours)
        front.send(hop.start(start))
        engine.start()
        asking = [threading.Thread(target=ask, args=(front, at)) for at in range(FRONTS)]
        for one in asking:
            one.start()
        ends = 0
        for event in front.read():
            ends += isinstance(event, Finished | Failed)
            if ends == FRONTS * REQUESTS:
                break
        for one in asking:
            one.join()
        front.send(hop.stop())
        engine.join(DEADLINE_S)
        assert not engine.is_alive()
    assert list(tmp_path.rglob("*.snapshot")), "the writer had nothing to do"
    assert {"llama_decode", "llama_free", "llama_state_seq_get_data"} <= callers.keys()
    assert {name: threads for name, threads in callers.items() if threads != {engine.ident}} == {}
    print(f"{len(callers)} native functions, all called by one thread of {FRONTS + 2}")


def ask(front: Front, number: int) -> None:
    draw = random.Random(number)
    for at in range(REQUESTS):
        request_id = number * 1000 + at
        front.send(
            hop.submit(
                EngineRequest(
                    request_id,
                    draw.choice((Kind.CHAT, Kind.COMPLETE, Kind.PREFILL, Kind.TOKENIZE))
                    if at
                    else Kind.COMPLETE,
                    1000 + number,
                    0.0,
                    text="some text that is long enough to be kept " * draw.randint(1, 4),
                    max_tokens=draw.randint(1, 20),
                    credit=100,
                    sampling=SamplingParams(temperature=1.0, seed=at, ignore_eos=True),
                )
            )
        )
        if draw.random() < 0.2:
            front.send({"do": "cancel", "id": request_id})
