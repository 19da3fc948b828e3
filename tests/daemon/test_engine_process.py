"""A real engine process with the scripted backend, and the front's end of the hop to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from qwend.daemon.engine_process import EngineProcess, describe_exit
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.engine import hop
from qwend.engine.events import Alive, CannotStart, Event, Failed, Finished, Produced, Ready
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.settings import EngineStart
from tests.support.daemon import DEADLINE_S

Kept = TypeVar("Kept")


@dataclass
class Running:
    """One engine process and all it has said."""

    events: list[Event] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    events_at_exit: int = -1
    _process: EngineProcess | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def process(self) -> EngineProcess:
        assert self._process is not None
        return self._process

    def hear(self, events: list[Event]) -> None:
        self.events += events
        self._changed.set()

    def exited(self, how: str) -> None:
        self.exits.append(how)
        self.events_at_exit = len(self.events)
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: type[Kept]) -> list[Kept]:
        return [event for event in self.events if isinstance(event, kind)]


@asynccontextmanager
async def running(
    script: dict[str, Any] | None = None, model_fd: int | None = None, **settings: Any
) -> AsyncIterator[Running]:
    one = Running()
    one._process = EngineProcess.begin(
        WaitingEngine.start(os.environ, "scripted"),
        EngineStart(**{"backend": "scripted", "model": "", "script": script or {}, **settings}),
        model_fd,
        on_events=one.hear,
        on_exit=one.exited,
    )
    try:
        yield one
    finally:
        if not one.exits:
            one.process.kill()
            await one.until(lambda: one.exits)


def complete(text: str, **fields: Any) -> dict[str, Any]:
    kind = fields.pop("kind", Kind.COMPLETE)
    return hop.submit(EngineRequest(1, kind, 1000, 0.0, text=text, **fields))


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit status 0"),
        (1, "exit status 1"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-6, "killed by SIGABRT"),
        (-63, "killed by signal 63"),
    ],
)
def test_an_end_is_described_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_it_gets_ready_answers_and_ends_when_asked() -> None:
    async def test() -> None:
        async with running() as one:
            await one.until(lambda: one.of(Ready))
            one.process.send(complete("hi"))
            await one.until(lambda: one.of(Finished))
            assert "".join(event.text for event in one.of(Produced)) == "hi"
            await one.process.stop()
            assert one.exits == ["exit status 0"]

    asyncio.run(test())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_death_is_told_once_and_by_name(number: signal.Signals) -> None:
    async def test() -> None:
        async with running() as one:
            await one.until(lambda: one.of(Ready))
            os.kill(one.process.pid, number)
            await one.until(lambda: one.exits)
            assert one.exits == [f"killed by {number.name}"]

    asyncio.run(test())


def test_what_it_said_before_it_died_is_heard_before_the_death() -> None:
    """8 decodes are the calibration's, 9 the prompt's; it dies before the fourth token."""

    async def test() -> None:
        async with running({"endless": True, "answer": "x", "die_at_step": 12}) as one:
            await one.until(lambda: one.of(Ready))
            one.process.send(complete("hi"))
            await one.until(lambda: one.exits)
            assert len(one.of(Produced)) == 3
            assert one.events_at_exit == len(one.events)

    asyncio.run(test())


def test_a_message_longer_than_a_packet_crosses_both_ways() -> None:
    text = "0123456789" * 5_000
    assert len(text) > hop.PACKET_BYTES

    async def test() -> None:
        async with running() as one:
            one.process.send(complete(text, kind=Kind.TOKENIZE))
            await one.until(lambda: one.of(Finished))
            assert bytes(one.of(Finished)[0].tokens or ()) == text.encode()

    asyncio.run(test())


def test_more_than_the_socket_takes_is_sent_as_the_engine_reads() -> None:
    """The engine calibrates, 8 steps of 20 ms, before it reads; 30 messages of 100 kB wait."""
    text = "x" * 100_000

    async def test() -> None:
        async with running({"step_s": 0.02}) as one:
            for number in range(30):
                request = EngineRequest(number, Kind.COMPLETE, 1000, 0.0, text=text)
                one.process.send(hop.submit(request))
            await one.until(lambda: len(one.of(Failed)) == 30)
            refused = one.of(Failed)
            assert [event.request_id for event in refused] == list(range(30))
            assert {event.code for event in refused} == {"context_exceeded"}

    asyncio.run(test())


def test_a_model_that_cannot_be_opened_is_a_complaint_and_an_exit() -> None:
    async def test() -> None:
        async with running(backend="llama", model="/nowhere/model.gguf") as one:
            await one.until(lambda: one.exits)
            assert one.exits == ["exit status 1"]
            assert len(one.of(CannotStart)) == 1

    asyncio.run(test())


def test_a_send_to_a_dead_engine_does_nothing() -> None:
    async def test() -> None:
        async with running() as one:
            one.process.kill()
            await one.until(lambda: one.exits)
            one.process.send(complete("hi"))
            one.process.kill()
            await asyncio.sleep(0)
            assert len(one.exits) == 1

    asyncio.run(test())


def test_a_hanging_engine_is_killed_when_it_does_not_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qwend.daemon.engine_process.STOP_TIMEOUT_S", 0.1)

    async def test() -> None:
        async with running({"hang_at_step": 9}) as one:
            await one.until(lambda: one.of(Ready))
            one.process.send(complete("hi"))
            await one.process.stop()
            assert one.exits == ["killed by SIGKILL"]

    asyncio.run(test())


def test_it_gets_the_model_and_the_hop_and_nothing_else(tmp_path: Path) -> None:
    model, other = tmp_path / "model", tmp_path / "other"
    model.write_text("")
    other.write_text("")

    async def test() -> None:
        with model.open() as given, other.open() as kept:
            os.set_inheritable(kept.fileno(), True)
            async with running(model_fd=given.fileno()) as one:
                await one.until(lambda: one.of(Ready))
                files = [file.path for file in psutil.Process(one.process.pid).open_files()]
                assert str(model) in files
                assert str(other) not in files

    asyncio.run(test())


def test_it_is_the_kernels_first_choice_when_memory_runs_out() -> None:
    async def test() -> None:
        async with running() as one:
            await one.until(lambda: one.of(Ready))
            theirs = Path(f"/proc/{one.process.pid}/oom_score_adj").read_text()
            assert int(theirs) > int(Path("/proc/self/oom_score_adj").read_text())

    asyncio.run(test())


def test_no_descriptor_is_left_when_it_ends_or_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with running() as one:
            await one.until(lambda: one.of(Ready))
        before = open_fds()
        for _ in range(3):
            async with running() as one:
                await one.until(lambda: one.of(Ready))
        monkeypatch.setattr("sys.executable", "/nowhere/python")
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                async with running():
                    pass
        assert open_fds() == before

    asyncio.run(test())


def test_a_refused_request_is_no_end_of_the_engine() -> None:
    async def test() -> None:
        async with running() as one:
            one.process.send(complete(""))
            await one.until(lambda: one.of(Failed))
            one.process.send(complete("hi"))
            await one.until(lambda: one.of(Finished))

    asyncio.run(test())


def test_a_ping_is_answered_while_it_is_idle_and_while_it_computes() -> None:
    async def test() -> None:
        async with running({"endless": True, "answer": "x", "step_s": 0.005}) as one:
            await one.until(lambda: one.of(Ready))
            one.process.send(hop.ping())
            await one.until(lambda: one.of(Alive) == [Alive(working=False)])
            one.process.send(complete("hi", max_tokens=1000, credit=1000))
            await one.until(lambda: one.of(Produced))
            one.process.send(hop.ping())
            await one.until(lambda: one.of(Alive)[1:] == [Alive(working=True)])

    asyncio.run(test())
