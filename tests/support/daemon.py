"""A real `qwend serve` in a directory of its own, for tests that need the whole of it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgpack
import psutil

from qwend.client import Client

# Long enough for the slowest machine this runs on; a test that waits this long has failed.
DEADLINE_S = 30.0


def wait_until(condition: Any, what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Return the condition's first true value. Raises: AssertionError naming what never came."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"not within {deadline_s:g} s: {what}")


@dataclass
class RunningDaemon:
    """process: `qwend serve`. env: what it and its clients run in. home: all it may write to."""

    process: subprocess.Popen[str]
    socket: Path
    home: Path
    env: dict[str, str]
    _log: Path = field(repr=False)

    @property
    def log(self) -> str:
        """Standard error of the daemon so far."""
        return self._log.read_text()

    def client(self, **options: Any) -> Client:
        return Client(str(self.socket), **options)

    def status(self) -> dict[str, Any]:
        with self.client() as client:
            return dict(client.status())

    def engine_pid(self) -> int:
        return int(self.status()["engine"]["pid"])

    def raw(self, *, hello: bool = True) -> RawClient:
        return RawClient(self.socket, hello=hello)

    def admit_everybody(self) -> None:
        """Let other users pass the directories above the socket; its mode is a setting."""
        for directory in (self.home, self.socket.parent):
            directory.chmod(0o755)

    def is_idle(self) -> bool:
        """True once no request is open and the engine holds nothing for any."""
        status = self.status()
        engine = status["engine"]
        return not (
            status["requests"]["open"]
            or engine["running"]
            or engine["waiting"]
            or engine["used_cells"]
        )

    def is_up(self) -> bool:
        """True once it accepts connections. Raises: AssertionError if it has ended instead."""
        if self.process.poll() is not None:
            raise AssertionError(f"qwend ended with {self.process.returncode}: {self.log}")
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(str(self.socket))
            return True
        return False

    def restart(self, number: int) -> None:
        """End it with this signal, and wait until the next one listens."""
        self.process.send_signal(number)
        self.process.wait(DEADLINE_S)
        with self._log.open("a") as stderr:
            self.process = subprocess.Popen(
                self.process.args,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=self.env,
                text=True,
            )
        wait_until(self.is_up, "the next one listens")

    def stop(self) -> int:
        """SIGTERM, and the exit status. Whatever is left of it is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
            self.process.wait()
            raise


class RawClient:
    """Sends what it is told, right or wrong, and reads message by message.

    place: a path to connect to, or a connection, which becomes the client's own.
    """

    def __init__(self, place: Path | socket.socket, *, hello: bool = True) -> None:
        if isinstance(place, socket.socket):
            self.socket = place
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(place))
        self.socket.settimeout(DEADLINE_S)
        self._read = bytearray()
        if hello:
            self.send({"op": "hello", "protocol": "qwend/1"})
            self.read_until("welcome")

    def send(self, fields: Mapping[str, Any]) -> None:
        self.send_bytes(frame(fields))

    def send_bytes(self, data: bytes) -> None:
        """A daemon that has closed already takes no more: what it said can still be read."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def read(self) -> dict[str, Any] | None:
        """The next message; None once the daemon has closed."""
        header = self._take(4)
        if not header:
            return None
        message: dict[str, Any] = msgpack.unpackb(self._take(int.from_bytes(header, "big")))
        return message

    def read_until(self, op: str, **keys: Any) -> list[dict[str, Any]]:
        """All messages up to the first of that op with these values."""
        messages: list[dict[str, Any]] = []
        while message := self.read():
            messages.append(message)
            if message["op"] == op and keys.items() <= message.items():
                return messages
        raise AssertionError(f"no {op} with {keys}, but {messages} and the end")

    def read_to_the_end(self) -> list[dict[str, Any]]:
        return list(iter(self.read, None))

    def ping(self) -> list[dict[str, Any]]:
        """Everything that came before the daemon answered."""
        self.send({"op": "ping", "nonce": 2**40})
        return self.read_until("pong", nonce=2**40)[:-1]

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exit: object) -> None:
        self.close()

    def _take(self, count: int) -> bytes:
        """That many bytes, or less at the end."""
        while len(self._read) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                break
            self._read += data
        taken = bytes(self._read[:count])
        del self._read[:count]
        return taken


def frame(fields: Mapping[str, Any]) -> bytes:
    payload: bytes = msgpack.packb(fields)
    return len(payload).to_bytes(4, "big") + payload


def daemon_env(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which qwend reads and writes nothing outside `home`."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("QWEND_")}
    for name in ("config", "state", "data", "cache", "run"):
        (home / name).mkdir(mode=0o700, exist_ok=True)
    return {
        **env,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        # As root the daemon would be the machine's: these make it this directory's.
        "RUNTIME_DIRECTORY": str(home / "run"),
        "STATE_DIRECTORY": str(home / "state"),
        "CONFIGURATION_DIRECTORY": str(home / "config"),
        **(settings or {}),
    }


@contextmanager
def started_daemon(
    *arguments: str, script: Mapping[str, Any] | None = None, **settings: str
) -> Iterator[RunningDaemon]:
    """Start it without waiting. settings: QWEND_* variables, such as QWEND_MODEL_CONTEXT="512"."""
    with tempfile.TemporaryDirectory(prefix="qwend-test-") as directory:
        home = Path(directory)
        env = daemon_env(home, settings)
        if script is not None:
            env |= {"QWEND_ENGINE_BACKEND": "scripted", "QWEND_SCRIPT": json.dumps(script)}
        socket_path = home / "run" / "qwend.sock"
        log = home / "log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "qwend.daemon.main", "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env=env,
                text=True,
            )
        daemon = RunningDaemon(process, socket_path, home, env, log)
        try:
            yield daemon
        finally:
            daemon.stop()


@contextmanager
def running_daemon(
    *arguments: str, script: Mapping[str, Any] | None = None, **settings: str
) -> Iterator[RunningDaemon]:
    """A daemon that is ready. Without `model` or settings it runs the scripted backend.

    script: settings of the scripted backend (qwend.engine.scripted.Script); None together with
    QWEND_ENGINE_BACKEND="llama" runs the real engine.
    """
    if script is None and settings.get("QWEND_ENGINE_BACKEND") != "llama":
        script = {}
    with started_daemon(*arguments, script=script, **settings) as daemon:
        wait_until(daemon.is_up, f"the daemon listens: {daemon.log}")
        yield daemon
