"""A private daemon for a measurement: its own socket, configuration and state, gone afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from qwend.client import Client, ClientError

from .interpreter import ROOT
from .tapped_daemon import PATH_VARIABLE

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
# A daemon that somebody runs is left alone: these make ours live in a directory of its own.
DIRECTORIES = {
    "XDG_RUNTIME_DIR": "run",
    "RUNTIME_DIRECTORY": "run",
    "XDG_STATE_HOME": "state",
    "STATE_DIRECTORY": "state",
    "XDG_CONFIG_HOME": "config",
    "CONFIGURATION_DIRECTORY": "config",
    "XDG_DATA_HOME": "data",
}


class DaemonFailed(Exception):
    """It did not start, or ended; the text is its log."""


@dataclass(slots=True)
class DaemonUnderTest:
    """`started_s`: from the start of the process to the first greeting, in seconds."""

    process: subprocess.Popen[bytes]
    socket: Path
    log: Path
    notes: Path
    started_s: float = 0.0

    def client(self) -> Client:
        return Client(str(self.socket))

    def cpu_s(self) -> float:
        """CPU time that front and engine have used so far."""
        front = psutil.Process(self.process.pid)
        return float(
            sum(
                sum(process.cpu_times()[:2]) for process in (front, *front.children(recursive=True))
            )
        )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DaemonFailed(f"it did not stop: {self.log.read_text()}") from None

    def production_times(self) -> list[tuple[int, int, float]]:
        """What the tap of `tapped_daemon` noted; after `stop`."""
        return [tuple(note) for note in json.loads(self.notes.read_text())]

    def wait_until_ready(self) -> None:
        begin = time.monotonic()
        while True:
            if self.process.poll() is not None:
                raise DaemonFailed(f"it ended while it started: {self.log.read_text()}")
            try:
                with self.client() as client:
                    if client.status()["state"] in ("ready", "degraded"):
                        break
            except ClientError:
                pass
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise DaemonFailed(f"not ready in {START_TIMEOUT_S} s: {self.log.read_text()}")
            time.sleep(0.02)
        self.started_s = time.monotonic() - begin


@contextmanager
def running_daemon(
    settings: Mapping[str, str], *, tapped: bool = False
) -> Iterator[DaemonUnderTest]:
    """settings: QWEND_* variables. tapped: note production times. Stopped already is fine."""
    with tempfile.TemporaryDirectory(prefix="qwend-bench-") as name:
        home = Path(name)
        daemon = start_daemon(home, settings, "bench_support.tapped_daemon" if tapped else None)
        try:
            daemon.wait_until_ready()
            yield daemon
        finally:
            if daemon.process.poll() is None:
                daemon.stop()


def start_daemon(home: Path, settings: Mapping[str, str], module: str | None) -> DaemonUnderTest:
    """Start it and return at once; again with the same `home`, it finds what it left there.

    module: run as the program instead of qwend's own main.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith("QWEND_")}
    for variable, folder in DIRECTORIES.items():
        (home / folder).mkdir(mode=0o700, exist_ok=True)
        environ[variable] = str(home / folder)
    environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'scripts'}"
    environ.update(settings)
    environ[PATH_VARIABLE] = str(home / "notes")
    socket, log = home / "run" / "qwend.sock", home / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module or "qwend.daemon.main", "serve", "--socket", str(socket)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
        )
    return DaemonUnderTest(process, socket, log, home / "notes")
