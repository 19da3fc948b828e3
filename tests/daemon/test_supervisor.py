"""The supervisor with engines that are fakes, on a clock that jumps: pauses cost no time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from qwend.daemon.supervisor import (
    DEATHS_WINDOW_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    MOST_DEATHS,
    EngineState,
    Hooks,
    Supervisor,
)
from qwend.engine import hop
from qwend.engine.events import Alive, CannotStart, Event, Gauges, Loading, Ready
from qwend.engine.settings import EngineStart
from qwend.errors import EngineLost, HostError, ModelError, QwendError
from tests.daemon.fakes import run_jumping

SETTINGS = EngineStart(backend="scripted", model="")
NO_PROCESS = BlockingIOError(11, "Resource temporarily unavailable")
# What fork(2), socketpair(2) and Python's own threads say where something has run out.
SHORT = [
    NO_PROCESS,
    OSError(12, "Cannot allocate memory"),
    HostError("qwend.gguf", "opening", OSError(24, "Too many open files")),
    RuntimeError("can't start new thread"),
]


@dataclass
class FakeProcess:
    """An engine process that does what the test says."""

    pid: int
    on_events: Callable[[list[Event]], None]
    on_exit: Callable[[str], None]
    stopped: bool = False
    killed: bool = False
    answers: bool = True
    dies_when_killed: bool = False

    def send(self, message: dict[str, Any]) -> None:
        if self.answers and message == hop.ping():
            self.say(Alive(working=False))

    def kill(self) -> None:
        self.killed = True
        if self.dies_when_killed:
            self.die("killed by SIGKILL")

    async def stop(self) -> None:
        self.stopped = True
        self.on_exit("exit status 0")

    def say(self, *events: Event) -> None:
        self.on_events(list(events))

    def get_ready(self) -> None:
        self.say(Ready({"build": "fake"}))

    def die(self, how: str = "killed by SIGKILL") -> None:
        self.on_exit(how)


@dataclass
class Stage:
    """A supervisor, the engines it starts and what it tells. Each start is judged by `on_start`."""

    on_start: Callable[[FakeProcess], None] = lambda process: None
    engines: list[FakeProcess] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    told: list[tuple[str, Any]] = field(default_factory=list)
    refusing: Exception | None = None
    tries: int = 0

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.supervisor = Supervisor(
            SETTINGS,
            self._start,
            Hooks(
                events=lambda events: self._tell("events", events),
                ready=lambda send: self._tell("ready", send),
                lost=lambda reason: self._tell("lost", reason),
                failed=lambda reason: self._tell("failed", reason),
                loading=lambda stage, fraction: self._tell("loading", (stage, fraction)),
            ),
            loop.time,
        )

    def _tell(self, what: str, value: object) -> None:
        self.told.append((what, value))

    async def _start(
        self,
        settings: EngineStart,
        on_events: Callable[[list[Event]], None],
        on_exit: Callable[[str], None],
    ) -> FakeProcess:
        self.tries += 1
        if self.refusing:
            raise self.refusing
        loop = asyncio.get_running_loop()
        self.starts.append(loop.time())
        process = FakeProcess(1000 + len(self.starts), on_events, on_exit)
        self.engines.append(process)
        loop.call_soon(self.on_start, process)
        return process

    @property
    def engine(self) -> FakeProcess:
        return self.engines[-1]

    async def started(self, number: int) -> None:
        await until(lambda: len(self.starts) == number)

    async def tried(self, number: int) -> None:
        await until(lambda: self.tries >= number)

    def told_of(self, what: str) -> list[Any]:
        return [value for kind, value in self.told if kind == what]


async def until(condition: Callable[[], object]) -> None:
    """Within an hour of the jumping clock."""
    async with asyncio.timeout(3600):
        while not condition():
            await asyncio.sleep(0.01)


def staged(test: Callable[[Stage], Awaitable[None]], on_start: Any = FakeProcess.get_ready) -> None:
    async def main() -> None:
        stage = Stage(on_start)
        try:
            await test(stage)
        finally:
            await stage.supervisor.stop()

    run_jumping(main())


def test_start_returns_once_the_engine_is_ready() -> None:
    async def test(stage: Stage) -> None:
        starting = asyncio.ensure_future(stage.supervisor.start())
        await until(lambda: stage.engines)
        stage.engine.say(Loading("loading", 0.5))
        await asyncio.sleep(60)
        assert not starting.done()
        stage.engine.get_ready()
        await starting
        assert stage.supervisor.state is EngineState.READY
        assert stage.supervisor.pid == 1001
        assert stage.supervisor.description == {"build": "fake"}
        assert stage.told_of("loading") == [("loading", 0.5)]
        assert len(stage.told_of("ready")) == 1

    staged(test, on_start=lambda process: None)


def test_events_go_on_to_the_broker() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        gauges = Gauges(1, 0, 0, 0, 0, 0.0, 0.0)
        stage.engine.say(gauges)
        assert stage.told_of("events")[-1] == [gauges]

    staged(test)


@pytest.mark.parametrize(
    ("last_words", "error", "reason"),
    [
        ([CannotStart("model_error", "no such file")], ModelError, "no such file"),
        ([], EngineLost, "killed by SIGKILL"),
    ],
)
def test_a_first_start_that_fails_is_told_and_not_tried_again(
    last_words: Sequence[Event], error: type[QwendError], reason: str
) -> None:
    async def test(stage: Stage) -> None:
        with pytest.raises(error, match=reason):
            await stage.supervisor.start()
        await asyncio.sleep(3600)
        assert len(stage.engines) == 1

    def fail(process: FakeProcess) -> None:
        process.say(*last_words)
        process.die()

    staged(test, on_start=fail)


def test_an_engine_that_dies_is_started_again() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.engine.die("killed by SIGSEGV")
        assert stage.supervisor.state is EngineState.LOST
        assert stage.supervisor.pid == 0
        assert stage.told_of("lost") == ["the engine process ended: killed by SIGSEGV"]
        await until(lambda: stage.supervisor.state is EngineState.READY)
        assert stage.supervisor.restarts == 1
        assert stage.supervisor.reason == ""
        assert len(stage.told_of("ready")) == 2

    staged(test)


def test_the_pause_before_a_start_doubles() -> None:
    deaths: list[float] = []

    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        for number in range(2, MOST_DEATHS + 2):
            deaths.append(asyncio.get_running_loop().time())
            stage.engine.die()
            await stage.started(number)
            await until(lambda: stage.supervisor.state is EngineState.READY)
        pauses = [start - death for start, death in zip(stage.starts[1:], deaths, strict=True)]
        expected = [FIRST_PAUSE_S * 2**number for number in range(MOST_DEATHS)]
        assert pauses == pytest.approx([min(one, LONGEST_PAUSE_S) for one in expected])

    staged(test)


def test_more_than_five_deaths_in_a_minute_are_the_end() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        for _ in range(MOST_DEATHS):
            stage.engine.die("killed by SIGBUS")
            await until(lambda: stage.supervisor.state is EngineState.READY)
        assert stage.told_of("failed") == []
        stage.engine.die("killed by SIGBUS")
        assert stage.supervisor.state is EngineState.FAILED
        assert stage.told_of("failed") == ["the engine process ended: killed by SIGBUS"]
        await asyncio.sleep(3600)
        assert len(stage.engines) == MOST_DEATHS + 1

    staged(test)


def test_a_death_now_and_then_is_forgiven_for_ever() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        for _ in range(5 * MOST_DEATHS):
            stage.engine.die()
            await until(lambda: stage.supervisor.state is EngineState.READY)
            await asyncio.sleep(DEATHS_WINDOW_S / MOST_DEATHS)
        assert stage.told_of("failed") == []

    staged(test)


def test_an_engine_that_dies_while_it_loads_again_is_tried_again_and_counted() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.on_start = lambda process: process.die("exit status 1")
        stage.engine.die()
        await until(lambda: stage.supervisor.state is EngineState.FAILED)
        assert len(stage.engines) == MOST_DEATHS + 1

    staged(test)


def test_the_complaint_of_one_engine_is_not_the_next_ones_reason() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.engine.say(CannotStart("host", "out of memory"))
        stage.engine.die("exit status 1")
        await until(lambda: stage.supervisor.state is EngineState.READY)
        stage.engine.die("killed by SIGKILL")
        assert stage.told_of("lost") == [
            "out of memory",
            "the engine process ended: killed by SIGKILL",
        ]

    staged(test)


def test_a_process_that_cannot_be_started_at_first_is_an_error_in_words() -> None:
    async def test(stage: Stage) -> None:
        stage.refusing = NO_PROCESS
        with pytest.raises(EngineLost, match="Resource temporarily unavailable"):
            await stage.supervisor.start()

    staged(test)


@pytest.mark.row("D6")
@pytest.mark.parametrize("refusing", SHORT, ids=str)
def test_a_start_that_the_machine_has_no_room_for_is_tried_until_it_has(
    refusing: Exception,
) -> None:
    """1. The engine dies, and no process can be started for two hours. 2. Then there is room.
    Expected: the reason meanwhile, tries that are never further apart, and an engine."""

    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.refusing = refusing
        stage.engine.die()
        await until(lambda: stage.tries == 2 * MOST_DEATHS)
        assert stage.supervisor.state is EngineState.LOST
        assert str(refusing) in stage.supervisor.reason
        assert str(refusing) in stage.told_of("lost")[-1]
        tries = stage.tries
        await asyncio.sleep(7200)
        assert stage.tries - tries == pytest.approx(7200 / LONGEST_PAUSE_S, rel=0.01)
        stage.refusing = None
        await until(lambda: stage.supervisor.state is EngineState.READY)
        assert stage.told_of("failed") == []

    staged(test)


@pytest.mark.row("D6")
def test_the_pause_before_a_start_doubles_while_there_is_no_room_too() -> None:
    tried: list[float] = []

    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.refusing = NO_PROCESS
        stage.engine.die()
        for number in range(2, 10):
            await stage.tried(number)
            tried.append(asyncio.get_running_loop().time())
        pauses = [later - earlier for earlier, later in pairwise(tried)]
        expected = [FIRST_PAUSE_S * 2**number for number in range(1, len(tried))]
        assert pauses == pytest.approx([min(one, LONGEST_PAUSE_S) for one in expected], abs=0.02)

    staged(test)


@pytest.mark.row("D6")
def test_engines_that_die_between_starts_without_room_are_counted() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        for _ in range(MOST_DEATHS):
            stage.refusing = NO_PROCESS
            stage.engine.die("killed by SIGBUS")
            await stage.tried(stage.tries + 1)
            stage.refusing = None
            await until(lambda: stage.supervisor.state is EngineState.READY)
        assert stage.told_of("failed") == []
        stage.engine.die("killed by SIGBUS")
        assert stage.supervisor.state is EngineState.FAILED

    staged(test)


@pytest.mark.parametrize(
    "refusing", [PermissionError(13, "Permission denied"), ModelError("no such file")]
)
def test_a_process_that_cannot_be_started_for_another_reason_is_counted(
    refusing: Exception,
) -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.refusing = refusing
        stage.engine.die()
        await until(lambda: stage.supervisor.state is EngineState.FAILED)
        assert stage.tries == MOST_DEATHS + 1
        assert str(refusing) in stage.told_of("failed")[-1]

    staged(test)


def test_stop_stops_the_engine_and_starts_no_other() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        await stage.supervisor.stop()
        assert stage.engine.stopped
        await asyncio.sleep(3600)
        assert len(stage.engines) == 1
        assert stage.told_of("lost") == []

    staged(test)


@pytest.mark.parametrize("ready", [True, False])
def test_an_engine_that_is_not_ready_is_not_asked_to_stop_but_killed(ready: bool) -> None:
    """While it loads it reads no messages, and has nothing that could be lost."""

    async def test(stage: Stage) -> None:
        starting = asyncio.ensure_future(stage.supervisor.start())
        await until(lambda: stage.engines)
        if ready:
            stage.engine.get_ready()
        await stage.supervisor.stop()
        assert stage.engine.stopped
        assert stage.engine.killed == (not ready)
        starting.cancel()

    staged(test, on_start=lambda process: None)


def test_stop_between_two_engines_starts_no_other() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.engine.die()
        await stage.supervisor.stop()
        await asyncio.sleep(3600)
        assert len(stage.engines) == 1

    staged(test)


@pytest.mark.row("F3")
def test_an_engine_that_hangs_is_killed_and_another_one_started() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.engine.dies_when_killed = True
        stage.engine.answers = False
        before = asyncio.get_running_loop().time()
        await until(lambda: stage.told_of("lost"))
        assert asyncio.get_running_loop().time() - before <= 12.0
        assert stage.engines[0].killed
        assert "hung" in stage.told_of("lost")[0]
        await until(lambda: stage.supervisor.state is EngineState.READY)
        await asyncio.sleep(3600)
        assert len(stage.engines) == 2

    staged(test)


@pytest.mark.row("F3")
def test_an_engine_that_answers_is_left_alone() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        await asyncio.sleep(3600)
        assert not stage.engine.killed
        assert not stage.supervisor.wedged

    staged(test)


def test_one_that_a_kill_does_not_end_is_wedged_until_it_ends() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.engine.answers = False
        await until(lambda: stage.engine.killed)
        assert stage.supervisor.wedged
        await asyncio.sleep(60)
        assert stage.supervisor.wedged
        stage.engine.die("killed by SIGKILL")
        assert not stage.supervisor.wedged
        await until(lambda: stage.supervisor.state is EngineState.READY)

    staged(test)


def test_a_first_start_that_hangs_is_told_as_that() -> None:
    async def test(stage: Stage) -> None:
        with pytest.raises(EngineLost, match="hung"):
            await stage.supervisor.start()

    def hang(process: FakeProcess) -> None:
        process.dies_when_killed = True

    staged(test, on_start=hang)


def test_the_patience_can_be_changed_while_it_runs() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()
        stage.supervisor.hang_after(100.0)
        stage.engine.answers = False
        await asyncio.sleep(90)
        assert not stage.engine.killed
        await until(lambda: stage.engine.killed)

    staged(test)


def test_a_stop_that_is_given_up_halfway_has_ended_it_all_the_same() -> None:
    async def test(stage: Stage) -> None:
        await stage.supervisor.start()

        async def never() -> None:
            await asyncio.Event().wait()

        stage.engine.stop = never  # type: ignore[method-assign]
        stopping = asyncio.ensure_future(stage.supervisor.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping
        assert stage.supervisor.state is EngineState.UNLOADED
        stage.engine.stop = FakeProcess.stop.__get__(stage.engine)  # type: ignore[method-assign]

    staged(test)
