"""An engine process that waits for its settings: taken once, or ended."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psutil
import pytest

from qwend.daemon.engine_process import EngineProcess
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.engine.events import Event, Ready
from qwend.engine.settings import EngineStart
from tests.support.daemon import DEADLINE_S


def test_one_that_is_abandoned_is_gone_with_its_descriptors() -> None:
    async def test() -> None:
        before = set(os.listdir("/proc/self/fd"))
        waiting = WaitingEngine.start(os.environ, "scripted")
        pid = waiting.process.pid
        waiting.abandon()
        waiting.abandon()
        assert not psutil.pid_exists(pid)
        assert set(os.listdir("/proc/self/fd")) == before

    asyncio.run(test())


def test_one_that_was_taken_is_not_abandoned() -> None:
    async def test() -> None:
        ready, ended = asyncio.Event(), asyncio.Event()

        def hear(events: list[Event]) -> None:
            if any(isinstance(event, Ready) for event in events):
                ready.set()

        waiting = WaitingEngine.start(os.environ, "scripted")
        engine = EngineProcess.begin(
            waiting,
            EngineStart("scripted", ""),
            None,
            on_events=hear,
            on_exit=lambda how: ended.set(),
        )
        waiting.abandon()
        async with asyncio.timeout(DEADLINE_S):
            await ready.wait()
            await engine.stop()
            await ended.wait()

    asyncio.run(test())


def test_one_that_died_while_it_waited_is_told_as_a_death() -> None:
    async def test() -> None:
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = WaitingEngine.start(os.environ, "scripted")
        waiting.process.kill()
        waiting.process.wait()
        EngineProcess.begin(
            waiting,
            EngineStart("scripted", ""),
            None,
            on_events=lambda events: None,
            on_exit=ended.set_result,
        )
        async with asyncio.timeout(DEADLINE_S):
            assert await ended == "killed by SIGKILL"

    asyncio.run(test())


@pytest.mark.llama
def test_it_has_its_libraries_before_it_has_its_settings() -> None:
    waiting = WaitingEngine.start(os.environ, "llama")
    try:
        maps = Path(f"/proc/{waiting.process.pid}/maps")
        give_up = time.monotonic() + DEADLINE_S
        while "libllama" not in maps.read_text():
            assert time.monotonic() < give_up
            assert waiting.process.poll() is None
            time.sleep(0.01)
    finally:
        waiting.abandon()
