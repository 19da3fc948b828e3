"""The engine process, for real, over a real socket pair, with the scripted backend."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psutil
import pytest

from qwend.engine import hop
from qwend.engine.events import (
    CannotStart,
    Event,
    Failed,
    Finished,
    Gauges,
    Loading,
    Produced,
    Queued,
    Ready,
    Started,
)
from qwend.engine.settings import EngineStart
from tests.support.engine import ask, by_request, check_contiguous

DEADLINE_S = 20.0
Kind = TypeVar("Kind")
# What a process runs that starts an engine, tells its pid and waits to be killed.
STAND_IN = """
import os, subprocess, sys, signal
engine = subprocess.Popen(
    [sys.executable, "-m", "qwend.engine.worker", sys.argv[1], str(os.getpid()), "scripted"],
    pass_fds=[int(sys.argv[1])],
)
print(engine.pid, flush=True)
signal.pause()
"""


class Front:
    """The front's end of the hop, and the engine process at the other."""

    def __init__(self, backend: str = "scripted", **settings: Any) -> None:
        settings.setdefault("model", "")
        self.settings = EngineStart(backend, **settings)
        self.socket, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._assembler = hop.Assembler()
        self._unread: list[Event] = []
        self.process: subprocess.Popen[str] | None = None

    def spawn(self, parent: int | None = None) -> subprocess.Popen[str]:
        front = str(os.getpid() if parent is None else parent)
        backend = self.settings.backend
        return self.spawn_command("-m", "qwend.engine.worker", "FD", front, backend)

    def spawn_command(self, *arguments: str) -> subprocess.Popen[str]:
        descriptor = self._theirs.fileno()
        self.process = subprocess.Popen(
            [sys.executable, *(str(descriptor) if one == "FD" else one for one in arguments)],
            pass_fds=(descriptor,),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._theirs.close()
        return self.process

    def send(self, message: dict[str, Any]) -> None:
        for packet in hop.packets(message):
            self.socket.send(packet)

    def next_event(self) -> Event | None:
        """The next event, or None when the engine has closed its end."""
        while not self._unread:
            ready, _, _ = select.select([self.socket], [], [], DEADLINE_S)
            assert ready, "the engine says nothing"
            try:
                packet = self.socket.recv(hop.PACKET_BYTES + 1)
            except ConnectionResetError:
                return None
            if not packet:
                return None
            message = self._assembler.feed(packet)
            if message is not None:
                self._unread = hop.read_events(message)
        return self._unread.pop(0)

    def until(self, kind: type[Kind]) -> tuple[Kind, list[Event]]:
        """The next event of a kind, and those before it (but for the gauges)."""
        before: list[Event] = []
        while True:
            event = self.next_event()
            assert event is not None, f"the engine ended before {kind.__name__}"
            if isinstance(event, kind):
                return event, before
            if not isinstance(event, Gauges):
                before.append(event)

    def exit_code(self) -> int:
        assert self.process is not None
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        self.socket.close()
        if self._theirs.fileno() >= 0:
            self._theirs.close()
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def front() -> Iterator[Callable[..., Front]]:
    """Makes fronts; ends their engines."""
    made: list[Front] = []

    def make(backend: str = "scripted", **settings: Any) -> Front:
        made.append(Front(backend, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def started(front: Callable[..., Front]) -> Callable[..., Front]:
    """Makes fronts whose engine is ready."""

    def start(**settings: Any) -> Front:
        one = front(**settings)
        one.spawn()
        one.send(hop.start(one.settings))
        one.until(Ready)
        return one

    return start


def test_it_says_how_far_it_is_and_then_that_it_is_ready(front: Callable[..., Front]) -> None:
    one = front(cells=500)
    one.spawn()
    one.send(hop.start(one.settings))
    ready, before = one.until(Ready)
    assert [event.stage for event in before if isinstance(event, Loading)] == [
        "loading",
        "calibrating",
    ]
    assert ready.description["build"] == "scripted"
    assert ready.description["context_cells"] == 500
    assert set(ready.description["step_ms"]) == {1, 4, 16, 64}


def test_a_request_is_answered_over_the_hop(started: Callable[..., Front]) -> None:
    one = started()
    request = ask("hello")
    one.send(hop.submit(request))
    finished, before = one.until(Finished)
    said = by_request([*before, finished])[request.id]
    assert (said.text, said.finished.finish_reason) == ("hello", "stop")
    check_contiguous(said)


def test_a_request_of_a_megabyte_crosses_in_parts(started: Callable[..., Front]) -> None:
    one = started(cells=1_100_000, ubatch=4096)
    request = ask("é" * 500_000, max_tokens=1)
    one.send(hop.submit(request))
    begun, _ = one.until(Started)
    assert begun.prompt_tokens == 1_000_000
    one.send(hop.cancel(request.id))
    assert one.until(Finished)[0].finish_reason == "cancelled"


def test_cancel_ends_a_stream(started: Callable[..., Front]) -> None:
    one = started(script={"endless": True})
    request = ask("x")
    one.send(hop.submit(request))
    one.until(Produced)
    one.send(hop.cancel(request.id))
    finished, _ = one.until(Finished)
    assert (finished.request_id, finished.finish_reason) == (request.id, "cancelled")


def test_a_grant_lets_a_paused_stream_go_on(started: Callable[..., Front]) -> None:
    one = started()
    request = ask("hello", credit=0)
    one.send(hop.submit(request))
    one.until(Started)
    one.send(hop.grant(request.id, 100))
    finished, before = one.until(Finished)
    assert by_request([*before, finished])[request.id].text == "hello"


def test_a_bad_request_fails_alone(started: Callable[..., Front]) -> None:
    one = started(cells=100)
    one.send(hop.submit(ask("x" * 200)))
    assert one.until(Failed)[0].code == "context_exceeded"
    one.send(hop.submit(ask("hello")))
    assert one.until(Finished)[0].finish_reason == "stop"


def test_a_front_that_does_not_read_misses_nothing(started: Callable[..., Front]) -> None:
    # 1. A stream of 3,000 tokens, more than the socket buffer takes, and nobody reads.
    # 2. A second request is taken all the same: its end comes after the first one's tokens.
    one = started(script={"endless": True})
    long, short = ask("x", max_tokens=3_000), ask("y", max_tokens=1)
    one.send(hop.submit(long))
    one.until(Started)
    wait_until(lambda: resting(one), "the engine has produced all it may, and waits for us")
    one.send(hop.submit(short))
    first, before = one.until(Finished)
    second, _ = one.until(Finished)
    assert [first.request_id, second.request_id] == [long.id, short.id]
    said = by_request([*before, first])[long.id]
    check_contiguous(said)
    assert len(said.ids) == 3_000


def test_it_rests_while_everyone_is_paused_and_others_wait(started: Callable[..., Front]) -> None:
    one = started(script={"endless": True}, max_sequences=1)
    one.send(hop.submit(ask("x", credit=3)))
    one.until(Started)
    one.send(hop.submit(ask("y")))
    one.until(Queued)
    wait_until(lambda: resting(one), "the engine sleeps")


def test_stop_ends_it_with_0(started: Callable[..., Front]) -> None:
    one = started()
    one.send(hop.stop())
    assert one.exit_code() == 0


def test_stop_ends_it_in_the_middle_of_a_stream(started: Callable[..., Front]) -> None:
    one = started(script={"endless": True})
    one.send(hop.submit(ask("x")))
    one.until(Produced)
    one.send(hop.stop())
    assert one.exit_code() == 0


def test_what_comes_together_with_the_settings_is_not_lost(front: Callable[..., Front]) -> None:
    one = front()
    request = ask("hello")
    one.send(hop.start(one.settings))
    one.send(hop.submit(request))
    one.spawn()
    finished, before = one.until(Finished)
    assert by_request([*before, finished])[request.id].text == "hello"


def test_a_stop_that_comes_together_with_the_settings_stops_it(
    front: Callable[..., Front],
) -> None:
    one = front()
    one.send(hop.start(one.settings))
    one.send(hop.stop())
    one.spawn()
    assert one.exit_code() == 0


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_when_the_front_closes_its_end(started: Callable[..., Front], busy: bool) -> None:
    one = started(script={"endless": True})
    if busy:
        one.send(hop.submit(ask("x", max_tokens=1 << 20)))
        one.until(Produced)
    one.socket.close()
    assert one.exit_code() == 0


def test_it_ends_when_the_front_is_gone_before_the_settings(front: Callable[..., Front]) -> None:
    one = front()
    one.spawn()
    one.socket.close()
    assert one.exit_code() == 0


def test_it_dies_with_its_parent_even_if_the_hop_stays_open(front: Callable[..., Front]) -> None:
    # 1. A stand-in for the front starts the engine, but this test holds the front's end.
    # 2. The stand-in is killed.  Expected: the engine is killed too (PR_SET_PDEATHSIG): the hop
    # is closed from its side, while ours is open.
    one = front()
    stand_in = one.spawn_command("-c", STAND_IN, "FD")
    assert stand_in.stdout is not None
    engine = psutil.Process(int(stand_in.stdout.readline()))
    one.send(hop.start(one.settings))
    one.until(Ready)
    stand_in.kill()
    while one.next_event() is not None:
        pass
    wait_until(lambda: not alive(engine), "the engine is dead")


def test_a_child_of_somebody_else_does_not_start(front: Callable[..., Front]) -> None:
    # The front died between the fork and prctl: whoever adopted the engine is not its front.
    one = front()
    one.spawn(parent=os.getpid() + 1)
    one.send(hop.start(one.settings))
    assert one.exit_code() == 0


def test_ctrl_c_in_the_terminal_does_not_end_it(started: Callable[..., Front]) -> None:
    one = started()
    assert one.process is not None
    one.process.send_signal(signal.SIGINT)
    one.send(hop.submit(ask("hello")))
    assert one.until(Finished)[0].finish_reason == "stop"


@pytest.mark.row("G5")
def test_it_leaves_no_core_and_is_the_first_to_go_when_memory_runs_out(
    started: Callable[..., Front],
) -> None:
    one = started()
    assert one.process is not None
    assert psutil.Process(one.process.pid).rlimit(psutil.RLIMIT_CORE) == (0, 0)
    with open(f"/proc/{one.process.pid}/oom_score_adj") as file:
        assert int(file.read()) == 500


# With one row a step the calibration is two steps, so that the third is the first request's.


def test_a_death_that_the_script_orders_is_a_kill(started: Callable[..., Front]) -> None:
    one = started(ubatch=1, script={"endless": True, "die_at_step": 5})
    request = ask("x")
    one.send(hop.submit(request))
    events = []
    while (event := one.next_event()) is not None:
        events.append(event)
    assert by_request(events)[request.id].text == "xx"
    assert one.exit_code() == -signal.SIGKILL


def test_a_refused_batch_fails_its_requests_and_the_engine_goes_on(
    started: Callable[..., Front],
) -> None:
    one = started(ubatch=1, script={"fail_at_step": 3})
    one.send(hop.submit(ask("x")))
    assert one.until(Failed)[0].code == "model_error"
    one.send(hop.submit(ask("y")))
    assert one.until(Finished)[0].finish_reason == "stop"


@pytest.mark.llama
@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"no model at all" * 100])
def test_a_model_that_cannot_be_loaded_is_told_and_ends_it_with_1(
    front: Callable[..., Front], tmp_path_factory: pytest.TempPathFactory, content: bytes | None
) -> None:
    path = tmp_path_factory.mktemp("model") / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    one = front("llama", model=str(path))
    process = one.spawn()
    one.send(hop.start(one.settings))
    refusal, _ = one.until(CannotStart)
    assert refusal.code == "model_error"
    assert "cannot load the model" in refusal.message
    assert one.exit_code() == 1
    assert process.stderr is not None
    assert refusal.message in process.stderr.read()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to pass that {what}"
        time.sleep(0.01)


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def resting(front: Front) -> bool:
    """True if the engine sleeps in poll(2): one that spins is always ready to run."""
    assert front.process is not None
    return psutil.Process(front.process.pid).status() == psutil.STATUS_SLEEPING
