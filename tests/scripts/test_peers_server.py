from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scripts.bench_support.peers import server as server_module
from scripts.bench_support.peers.answer import Answer
from scripts.bench_support.peers.scripted_server import ScriptedServer
from scripts.bench_support.peers.server import ServerFailed, at_once
from scripts.bench_support.stream_times import StreamTimes

# Ignores SIGTERM, has a child that does, says so, and lives on.
STUBBORN = (
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen(['sleep', '60']); print('ready', flush=True); time.sleep(60)"
)


# Ends on SIGTERM in its own way, as llama-server does: while it is stopped it cannot.
ORDERLY = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));"
    "print('ready', flush=True); time.sleep(60)"
)


def running(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


def test_what_ignores_sigterm_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedServer, "_spawn", lambda server: running(STUBBORN))
    monkeypatch.setattr(server_module, "STOP_TIMEOUT_S", 0.05)
    server = ScriptedServer("x")
    server.start()
    process, family = server.process, server.processes()
    assert process is not None
    assert len(family) == 2
    server.close()
    assert process.returncode == -signal.SIGKILL
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def test_a_paused_process_is_woken_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptedServer, "_spawn", lambda server: running(ORDERLY))
    server = ScriptedServer("x")
    server.start()
    process = server.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    server.close()
    assert process.returncode == 7


def test_its_home_stays_between_starts_and_goes_at_the_end() -> None:
    server = ScriptedServer("x")
    for _ in range(2):
        server.start()
        server.stop()
        assert server.log.exists()
    server.close()
    server.close()
    assert not server.home.exists()


def test_a_server_that_ends_while_it_starts_is_told_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def spawn(server: ScriptedServer) -> subprocess.Popen[bytes]:
        server.log.write_text("\n".join(f"line {n}" for n in range(40)) + "\nno such file\n")
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        process.wait()
        return process

    async def never(server: ScriptedServer) -> bool:
        return False

    monkeypatch.setattr(ScriptedServer, "_spawn", spawn)
    monkeypatch.setattr(ScriptedServer, "is_ready", never)
    server = ScriptedServer("x")
    with pytest.raises(ServerFailed) as failed:
        asyncio.run(server.started())
    server.close()
    assert failed.value.what == "x: it ended with status 3"
    assert str(failed.value).endswith("line 39\nno such file")
    assert "line 20" not in str(failed.value)


def test_its_cpu_time_is_that_of_all_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ScriptedServer("x")
    server.start()
    monkeypatch.setattr(psutil.Process, "cpu_times", lambda process: (1.0, 0.5, 0.0, 0.0))
    assert server.cpu_s() == 1.5
    server.close()
    assert server.cpu_s() == 0.0


def test_files_in_memory_are_counted_only_where_they_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ScriptedServer("x")
    (server.home / "copy").write_bytes(b"x" * 10_000)
    monkeypatch.setattr(server_module, "MEMORY_DISK", server.home.parent)
    assert server.memory_files_bytes() >= 10_000
    monkeypatch.setattr(server_module, "MEMORY_DISK", tmp_path)
    assert server.memory_files_bytes() == 0
    server.close()


def test_when_one_of_many_fails_its_error_is_raised_and_the_others_are_given_up() -> None:
    given_up = []

    async def fail() -> Answer:
        raise ServerFailed("x: no more", "")

    async def wait() -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            given_up.append(True)
        raise AssertionError

    with pytest.raises(ServerFailed, match=r"^x: no more$"):
        asyncio.run(at_once(wait(), fail(), wait()))
    assert given_up == [True, True]


def test_answers_stand_in_the_order_in_which_they_were_asked_for() -> None:
    async def answer(count: int) -> Answer:
        for _ in range(5 - count):
            await asyncio.sleep(0)
        return Answer(StreamTimes(0.0, ((count, 1.0),)))

    answers = asyncio.run(at_once(*[answer(count) for count in range(1, 4)]))
    assert [each.tokens for each in answers] == [1, 2, 3]
