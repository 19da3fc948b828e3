"""Keep one private daemon and its directory for as long as somebody holds our standard input.

Rule 1: when stdin closes (its holder ended, in whatever way, SIGKILL included) the daemon is
stopped and waited for, and the directory is removed.
Rule 2: this file does not know what the daemon is asked.

Used as: keeper.py DIRECTORY SOCKET COMMAND ...
Says one line on stdout: "ready", or "failed" after the daemon ended by itself; what the daemon
printed is then in DIRECTORY/daemon.log until stdin closes.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

# How long the daemon gets to stop: it has nothing to finish, its only client is gone.
STOP_S = 10.0
LOOK_EVERY_S = 0.05


def main() -> int:
    directory, path, *command = sys.argv[1:]
    # We have a session of our own; what still may come is a kill by name. The directory matters
    # more: go on until stdin closes, which it does when the same kill ends our holder.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        with open(Path(directory) / "daemon.log", "wb") as log:
            daemon = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                restore_signals=True,
                preexec_fn=_default_signals,
            )
        try:
            _say("ready" if _is_ready(daemon, Path(path)) else "failed")
            while not _holder_is_gone(None):
                pass
        finally:
            _stop(daemon)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _is_ready(daemon: subprocess.Popen[bytes], path: Path) -> bool:
    """Wait until the daemon listens; False if it ended, or nobody waits any more."""
    while not _answers(path):
        if daemon.poll() is not None or _holder_is_gone(LOOK_EVERY_S):
            return False
    return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return path.exists() and probe.connect_ex(str(path)) == 0


def _holder_is_gone(timeout_s: float | None) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], timeout_s)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _say(word: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(word, flush=True)


def _default_signals() -> None:
    # Ignored signals stay ignored across exec.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
