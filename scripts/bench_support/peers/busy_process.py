"""Other programs that use all the CPU they get, each in a session of its own.

setsid(2) matters: with sched_autogroup_enabled (sched(7)) the kernel shares a CPU between
sessions, as between two terminals of a person or a login and a cron job.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Ends with whoever started it, even if that was killed: it must not be left behind.
CODE = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    for _ in range(10**6): pass"


@contextmanager
def busy_processes(count: int) -> Iterator[list[int]]:
    """Their pids; they are gone afterwards."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            command = [sys.executable, "-c", CODE, str(os.getpid())]
            processes.append(subprocess.Popen(command, start_new_session=True))
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
