"""Everything that a daemon makes has its mode from its first moment, under any umask.

A thread looks at the whole of its directories, from before the start until after the stop, while
a daemon's life goes by: warm copy, calibration, snapshots, a death of the engine, a stop.
"""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import RunningDaemon, started_daemon, wait_until

pytestmark = [pytest.mark.llama, pytest.mark.row("G2")]
# A thousand looks a second leave the daemon a CPU.
LOOK_S = 0.001
LONG = "Tell me about qwend. " * 10
# By name below the home: the modes that it may ever have. 0 is the socket before its mode is set:
# nobody can connect yet. `run` is passed through by clients; the socket's own mode keeps them out.
ALLOWED: dict[str, set[int]] = {
    "run/qwend.sock": {0, 0o660},
    "run/qwend.sock.lock": {0o600},
    "run/model": {0o700},
    "run/model/*": {0o400, 0o600},
    "state/engine": {0o700},
    "state/engine/*.json": {0o600},
    "state/engine/.*": {0o600},
    "state/engine/prefixes": {0o700},
    "state/engine/prefixes/*": {0o600},
    "state/*.db*": {0o600},
}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


class Watch:
    """seen: path below the home -> every mode that it was seen with. looks: how often."""

    def __init__(self, home: Path) -> None:
        self.seen: dict[Path, set[int]] = defaultdict(set)
        self.looks = 0
        self._home = home
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self.looks += 1
            for top in ("run", "state"):
                self._look_into(self._home / top)

    def _look_into(self, directory: Path) -> None:
        try:
            entries = list(os.scandir(directory))
        except OSError:
            return
        for entry in entries:
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except OSError:  # gone since
                continue
            self.seen[Path(entry.path).relative_to(self._home)].add(stat.S_IMODE(mode))
            if stat.S_ISDIR(mode):
                self._look_into(Path(entry.path))


def loose(path: Path, modes: set[int]) -> set[int]:
    """The modes that it was never to have."""
    for pattern, allowed in ALLOWED.items():
        if path.match(pattern) and len(path.parts) == len(Path(pattern).parts):
            return modes - allowed
    return modes


def live(daemon: RunningDaemon) -> None:
    """What makes files: a start, an answer, a death of the engine, a stop that keeps something."""
    wait_until(daemon.is_up, "it listens")
    with daemon.client() as client:
        client.chat(LONG, max_tokens=4).wait()
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        wait_until(lambda: daemon.status()["engine"]["restarts"] == 1, "there is another engine")
        wait_until(lambda: daemon.status()["engine"]["state"] == "ready", "it takes requests")
        client.chat(LONG, max_tokens=4).wait()
    assert daemon.stop() == 0


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_no_file_is_ever_more_open_than_it_is_meant(mask: int) -> None:
    with umask(mask), started_daemon(QWEND_ENGINE_BACKEND="llama") as daemon:
        watch = Watch(daemon.home)
        try:
            live(daemon)
        finally:
            watch.close()
    names = {path.as_posix() for path in watch.seen}
    assert {"run/qwend.sock", "run/model", "state/engine/prefixes"} <= names
    assert any(name.endswith(".snapshot") for name in names)
    assert {path: modes for path, seen in watch.seen.items() if (modes := loose(path, seen))} == {}
    print(f"umask {mask:03o}: {len(names)} names, {watch.looks} looks, none too open")
