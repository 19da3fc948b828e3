"""How many threads the system lets this process start now.

Owns the trial. Native code does not ask: where a limit on processes is reached (TasksMax= of a
unit, pids.max of a container, `ulimit -u`), llama.cpp aborts (GGML_ASSERT(rc == 0) after
pthread_create, ggml-cpu.c) and libgomp calls exit(1). So as many are started here first and let go.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

TASKS = "/proc/self/task"  # proc(5)
# A thread that was joined counts against the limit until the kernel has released it: microseconds.
RELEASE_S = 1.0


def startable_threads(
    wanted: int, start: Callable[[threading.Thread], None] = threading.Thread.start
) -> int:
    """At most `wanted`; the calling thread is the first of them."""
    before = _tasks()
    let_go = threading.Event()
    started: list[threading.Thread] = []
    try:
        while len(started) < wanted - 1:
            thread = threading.Thread(target=let_go.wait, daemon=True)
            start(thread)
            started.append(thread)
    except RuntimeError:  # can't start new thread
        pass
    finally:
        let_go.set()
        for thread in started:
            thread.join()
    _wait_until_released(before)
    return 1 + len(started)


def _wait_until_released(before: int) -> None:
    end = time.monotonic() + RELEASE_S
    while _tasks() > before and time.monotonic() < end:
        time.sleep(0)


def _tasks() -> int:
    try:
        return len(os.listdir(TASKS))
    except OSError:
        return 0
