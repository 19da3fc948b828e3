from __future__ import annotations

import subprocess
import sys
import time

import psutil

from scripts.bench_support.machine import Company, this_machine

BUSY = "import time\nend = time.process_time() + 1\nwhile time.process_time() < end: pass"


def test_others_are_company_and_our_own_work_is_not() -> None:
    # 1. A child burns a second of CPU. 2. Until it is waited for it is somebody else's work.
    # 3. After that it is ours: the share falls by what it used.
    with_child = Company(lambda: 0.0)
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    process = psutil.Process(child.pid)
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    before = with_child.share()
    child.wait()
    after = with_child.share()
    assert before > after


def test_what_is_declared_as_our_own_is_not_company() -> None:
    spent_s = iter([0.0, 10_000.0])
    assert Company(lambda: next(spent_s)).share() == 0.0


def test_the_machine_has_a_name_and_cores() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.memory_mib > 0
