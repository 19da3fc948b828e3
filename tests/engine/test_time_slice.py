"""The time slice: asked for in a process of its own, since it stays with the thread."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from qwend.engine.time_slice import want_long_slices

ASK = """
import os, threading
from pathlib import Path
from qwend.engine.time_slice import want_long_slices
os.nice(3)
before = os.sched_getscheduler(0), os.nice(0)
assert want_long_slices(os.nice(0)), "refused"
assert (os.sched_getscheduler(0), os.nice(0)) == before
slices = []
def look():
    for line in Path(f"/proc/self/task/{threading.get_native_id()}/sched").read_text().splitlines():
        if line.startswith("se.slice"):
            slices.append(int(line.split(":")[1]))
thread = threading.Thread(target=look)
thread.start(); thread.join()
print(*slices)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the call's number is for x86-64")
def test_threads_made_later_have_a_long_slice_and_the_same_niceness() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Kernels without CONFIG_SCHED_DEBUG, and those before 6.12, do not tell.
    assert done.stdout.split() in ([], ["20000000"]), done.stdout


def test_a_machine_without_a_known_call_is_left_alone() -> None:
    before = os.sched_getscheduler(0)
    assert not want_long_slices(0, "vax")
    assert os.sched_getscheduler(0) == before
