"""An engine process that was started early, and waits for its settings and its model.

Owns the process and our end of the hop until an EngineProcess takes both. Needs so little that it
can be started before the rest of the front is imported: what the engine imports (numpy, llama.cpp)
and what the front imports and checks then take their time side by side. That is 0.3 s of a warm
start on two cores, and seconds on a small board.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from qwend import failpoint

# What systemd says to the front is not for the engine: sd_notify(3), sd_listen_fds(3).
SYSTEMDS = frozenset(
    {
        *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"),
        *("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"),
    }
)


@dataclass(slots=True)
class WaitingEngine:
    """hop: our end of it, which does not block. Whoever takes the process sets `taken`."""

    process: subprocess.Popen[bytes]
    hop: socket.socket
    taken: bool = False

    @classmethod
    def start(cls, environ: Mapping[str, str], backend: str) -> WaitingEngine:
        """backend: whose libraries it imports while it waits.

        Raises: OSError if there is no memory or no process left.
        """
        failpoint.reach("engine.start")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs, ExitStack() as undo:
            undo.callback(ours.close)
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # what lies in the current directory is not ours to import
                    "-m",
                    "qwend.engine.worker",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    backend,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # An abort of llama.cpp otherwise starts gdb where there is one, which can hang.
                env={**_without(environ, SYSTEMDS), "GGML_NO_BACKTRACE": "1"},
            )
            undo.pop_all()
        return cls(process, ours)

    def abandon(self) -> None:
        """End it, unless somebody has taken it."""
        if self.taken:
            return
        self.taken = True
        self.process.kill()
        self.process.wait()
        self.hop.close()


def _without(environ: Mapping[str, str], names: frozenset[str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name not in names}
