"""llama.cpp ends the engine's process: at once, without a debugger, whoever reads its output.

A model with two equal tokens is refused by our own check. Given to an engine all the same, it is a
GGML_ASSERT of llama.cpp's loader: a real abort of a real engine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from qwend.daemon.engine_process import EngineProcess
from qwend.daemon.waiting_engine import WaitingEngine
from qwend.engine.events import Event, Loading
from tests.support.daemon import DEADLINE_S, running_daemon, wait_until
from tests.support.tiny_model import settings, write_tiny_model

pytestmark = [pytest.mark.llama, pytest.mark.row("F2")]
DEBUGGERS = ("gdb", "lldb")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokens `a` and `b` are both `a`."""
    path = write_tiny_model(tmp_path_factory.mktemp("model") / "twins.gguf")
    data = path.read_bytes()
    one = (1).to_bytes(8, "little")
    assert data.count(one + b"a" + one + b"b") == 1
    path.write_bytes(data.replace(one + b"a" + one + b"b", one + b"a" + one + b"a"))
    return path


@pytest.fixture
def debugger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A debugger that comes first on PATH and holds on to the process. Returns the file that says
    that it was called."""
    called = tmp_path / "called"
    for name in DEBUGGERS:
        script = tmp_path / "bin" / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(f'#!/bin/sh\necho "$0 $*" >> {called}\nexec sleep 600\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return called


@contextmanager
def output_to(kind: str) -> Iterator[int]:
    """What is started meanwhile has this standard output and standard error. Yields the reading
    end of the pipe that both are."""
    reader, writer = os.pipe()
    if kind == "full":
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(4096))
        os.set_blocking(writer, True)
    elif kind == "broken":
        os.close(reader)
    kept = os.dup(1), os.dup(2)
    try:
        for number in (1, 2):
            os.dup2(writer, number)
        yield reader
    finally:
        for number, fd in zip((1, 2), kept, strict=True):
            os.dup2(fd, number)
            os.close(fd)
        os.close(writer)
        if kind != "broken":
            os.close(reader)


@pytest.mark.parametrize("output", ["read", "full", "broken"])
def test_an_abort_of_llama_cpp_is_over_at_once_and_starts_no_debugger(
    twins: Path, debugger: Path, output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with capfd.disabled():
        how, seconds, said = asyncio.run(death(twins, output))
    print(f"output {output}: dead {seconds * 1e3:.0f} ms after it had begun to load")
    assert how == "killed by SIGABRT"
    assert ("GGML_ASSERT" in said) == (output == "read")
    assert not debugger.exists(), debugger.read_text()
    names = {child.name() for child in psutil.Process().children(recursive=True)}
    assert not names & {*DEBUGGERS, "sleep"}


async def death(model: Path, output: str) -> tuple[str, float, str]:
    """How an engine ended that was given the model, how long after its first word, and what could
    be read of it."""
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    heard: list[float] = []

    def hear(events: list[Event]) -> None:
        heard.extend(time.monotonic() for event in events if isinstance(event, Loading))

    with output_to(output) as reader:
        waiting = WaitingEngine.start(os.environ, "llama")
        fd = os.open(model, os.O_RDONLY)
        EngineProcess.begin(waiting, settings(model), fd, on_events=hear, on_exit=ended.set_result)
        os.close(fd)
        kill = asyncio.get_running_loop().call_later(DEADLINE_S, waiting.process.kill)
        how = await ended
        kill.cancel()
        seconds = time.monotonic() - heard[0]
        said = os.read(reader, 65536).decode() if output == "read" else ""
    return how, seconds, said


def test_a_daemon_whose_output_is_closed_serves_and_survives_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input, output and error: their numbers are those of no socket then."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@" <&- >&- 2>&-\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with running_daemon(QWEND_ENGINE_BACKEND="llama") as daemon, daemon.client() as client:
        front = daemon.status()["pid"]
        for pid in (front, daemon.engine_pid()):
            for number in range(3):
                assert os.readlink(f"/proc/{pid}/fd/{number}") == os.devnull
        os.kill(daemon.engine_pid(), signal.SIGABRT)
        wait_until(lambda: daemon.status()["engine"]["restarts"] == 1, "there is another engine")
        assert client.chat("hello", max_tokens=4).wait().usage.completion_tokens > 0
        assert daemon.stop() == 0
