"""Nobody reads the log any more: the pipe of standard error is full, and the daemon serves on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.daemon import RawClient, daemon_env, wait_until

pytestmark = pytest.mark.row("D7")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def fill(writer: int) -> None:
    """Through a description of its own: the daemon's own must stay one that waits."""
    own = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(own, bytes(4096))
    os.close(own)


def test_a_daemon_whose_log_nobody_reads_serves_and_stops(
    folder: Path, pipe: tuple[int, int]
) -> None:
    """1. Its log is read until it is ready, and then no more. 2. The pipe is full when it has
    something to say. 3. It answers; read again, it says how much was left out."""
    reader, writer = pipe
    settings = {"QWEND_ENGINE_BACKEND": "scripted", "QWEND_SCRIPT": "{}"}
    process = subprocess.Popen(
        [sys.executable, "-m", "qwend.daemon.main", "serve"],
        stdin=subprocess.DEVNULL,
        stderr=writer,
        env=daemon_env(folder, settings),
    )
    try:
        said = b""
        while b"INFO: ready" not in said:
            said += os.read(reader, 65536)
        fill(writer)
        with RawClient(folder / "run" / "qwend.sock") as client:
            for _ in range(3):
                process.send_signal(signal.SIGHUP)  # which is told of in the log
                client.ping()
            client.send({"op": "complete", "id": 1, "prompt": "hello"})
            assert client.read_until("done")
            os.set_blocking(reader, False)
            drained = bytearray()
            with suppress(BlockingIOError):
                while part := os.read(reader, 65536):
                    drained += part
            process.send_signal(signal.SIGHUP)
            os.set_blocking(reader, True)
            said = b""
            while b"configuration read again" not in said:
                said += os.read(reader, 65536)
            assert b"could not be written" in said
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.poll() is not None, "it ends")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
