"""What systemd is to the daemon: a notification socket, a descriptor store, and starts with both.

Real sockets and a real `qwend serve`; only the manager is not one.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from qwend.daemon.kept_connection import PAGES_NAME
from qwend.daemon.kept_page import PAGE_BYTES, Doubt
from qwend.daemon.kept_requests import REQUESTS_NAME
from tests.support.daemon import DEADLINE_S, RawClient, daemon_env

# Puts the descriptors where sd_listen_fds(3) wants them, and becomes the daemon.
LAUNCH = """
import fcntl, os, sys
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split(",") if fd]
for at, fd in enumerate(given):
    os.dup2(fd, 3 + at)
# One descriptor each, as systemd gives them: a copy would hold a connection that was closed.
os.closerange(3 + len(given), 4096)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-m", "qwend.daemon.main", "serve"])
"""


@dataclass
class FakeSystemd:
    """said: every message of the service, as lists of lines. store: what it has given to keep."""

    home: Path
    notified: socket.socket
    listener: socket.socket
    store_size: int = 16
    said: list[list[str]] = field(default_factory=list)
    store: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def connections(self) -> list[str]:
        """Those that are kept, by name."""
        return [name for name in self.store if name not in (PAGES_NAME, REQUESTS_NAME)]

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    def start(self, script: dict[str, Any] | None = None, **settings: str) -> None:
        """Start the service as after `systemctl start`, with what is in the store."""
        names = ["qwend.socket", *self.store]
        fds = [self.listener.fileno(), *self.store.values()]
        env = daemon_env(self.home, settings) | {
            "QWEND_ENGINE_BACKEND": "scripted",
            "QWEND_SCRIPT": json.dumps(script or {}),
            "NOTIFY_SOCKET": str(self.notified.getsockname()),
            "LISTEN_FDS": str(len(fds)),
            "LISTEN_FDNAMES": ":".join(names),
            "FDSTORE": str(self.store_size),
        }
        env.update({key: value for key, value in settings.items() if value})
        for name in [key for key, value in settings.items() if not value]:
            del env[name]
        with (self.home / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, ",".join(map(str, fds))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                pass_fds=fds,
            )

    def start_and_wait(self, script: dict[str, Any] | None = None, **settings: str) -> None:
        begin = len(self.said)
        self.start(script, **settings)
        self.until(lambda: any("READY=1" in one for one in self.said[begin:]), "it is ready")

    def kill(self, doubt: Doubt = Doubt.NONE) -> None:
        """End the service and all its processes at once, in a moment in which all its connections
        have this doubt."""
        if PAGES_NAME in self.store:
            self.wait_for_doubt(doubt)
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the service as systemd does; return its exit status."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, DEADLINE_S)
        self.listen()
        return status

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + DEADLINE_S
        while not (value := condition()):
            left = end - time.monotonic()
            assert left > 0, f"never: {what}; {self.said} {self.log}"
            self.notified.settimeout(min(left, 0.05))
            self._hear_one()
        return value

    def listen(self) -> None:
        """Read what has been said so far."""
        self.notified.settimeout(0.001)
        while self._hear_one():
            continue

    def says(self, line: str) -> int:
        """How often it has said this line."""
        return sum(line in message for message in self.said)

    def statuses(self) -> list[str]:
        lines = [line for message in self.said for line in message]
        return [line.removeprefix("STATUS=") for line in lines if line.startswith("STATUS=")]

    def client(self, *, hello: bool = True) -> RawClient:
        return RawClient(Path(self.listener.getsockname()), hello=hello)

    def greeted(self) -> RawClient:
        """A client whose connection is in the store."""
        before = len(self.connections)
        client = self.client()
        client.ping()
        self.until(lambda: len(self.connections) > before, "its connection is kept")
        return client

    def wait_for_doubt(self, doubt: Doubt) -> None:
        """Until every connection that is kept has just this doubt."""

        def is_so() -> bool:
            numbers = [name.rpartition("-")[2] for name in self.connections]
            pages = self.store[PAGES_NAME]
            flags = [os.pread(pages, 1, int(at) * PAGE_BYTES)[0] for at in numbers]
            return all(one == 0x80 | doubt for one in flags)

        self.until(is_so, "everything is noted")

    def _hear_one(self) -> bool:
        try:
            data, ancillary, _, _ = self.notified.recvmsg(65536, socket.CMSG_SPACE(16))
        except (TimeoutError, BlockingIOError):
            return False
        message = data.decode().splitlines()
        fds = array.array("i")
        for _, kind, rights in ancillary:
            assert kind == socket.SCM_RIGHTS
            fds.frombytes(rights)
        self.said.append(message)
        fields = dict(line.split("=", 1) for line in message)
        if "FDSTORE" in fields:
            (self.store[fields["FDNAME"]],) = fds
        elif "FDSTOREREMOVE" in fields:
            os.close(self.store.pop(fields["FDNAME"]))
        return True

    def drop_store(self) -> None:
        """As after `systemctl stop`."""
        while self.store:
            os.close(self.store.popitem()[1])


@contextmanager
def fake_systemd(**options: Any) -> Iterator[FakeSystemd]:
    with (
        tempfile.TemporaryDirectory(prefix="qwend-test-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        home = Path(directory)
        notified.bind(str(home / "notify"))
        listener.bind(str(home / "socket"))
        listener.listen()
        systemd = FakeSystemd(home, notified, listener, **options)
        try:
            yield systemd
        finally:
            if systemd.process is not None and systemd.process.poll() is None:
                systemd.stop(signal.SIGKILL)
            systemd.listen()
            systemd.drop_store()
