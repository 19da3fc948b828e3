"""Memory runs out in the control group of the service: the kernel takes the engine, and no other.

QWEND_TEST_OOMS sets how often.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot
from tests.systemd.machine import Machine

pytestmark = [pytest.mark.llama, pytest.mark.row("D1")]
OOMS = int(os.environ.get("QWEND_TEST_OOMS", "2"))
# More deaths than five in a minute end the daemon's patience: it is started again before.
FORGIVEN = 4
LIMIT = "[Service]\nMemoryMax=128M\n"
# Takes memory in the group of the service until the engine is gone; then it gives all back. It has
# the score of a front that grows, and in so small a group less than the engine's.
EATER = """
import mmap, sys, time
engine, group = sys.argv[1:]
with open(group + "/cgroup.procs", "w") as file:
    file.write("0")
def lives():
    try:
        return open("/proc/" + engine + "/stat").read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
pages = []
while lives():
    pages.append(mmap.mmap(-1, 1 << 20))
    pages[-1].write(bytes(1 << 20))
    time.sleep(0.005)  # not quicker than a killed process goes
"""


def group_of(machine: Machine) -> str:
    root = "/sys/fs/cgroup/memory" if machine.path("/sys/fs/cgroup/memory").is_dir() else ""
    return f"{root or '/sys/fs/cgroup'}{machine.property('qwend', 'ControlGroup')}"


def score(machine: Machine, pid: str) -> int:
    return int(machine.run("cat", f"/proc/{pid}/oom_score_adj").stdout)


@pytest.mark.timeout(60 + 10 * OOMS)
def test_the_engine_is_killed_and_the_front_answers_with_the_next(boot: Boot) -> None:
    machine = boot(service=LIMIT)
    if "memory" not in machine.controllers:
        pytest.skip("no memory controller in this machine's control groups")
    service.start(machine)
    back_s = []
    with service.connect(machine) as client:
        before = service.ask(client)
        for number in range(OOMS):
            if number % FORGIVEN == 0:
                machine.systemctl("restart", "qwend")
                assert service.ask_until_answered(client) == before
            front, engine = service.main_pid(machine), service.engine_pid(machine)
            assert score(machine, engine) - score(machine, front) >= 500
            command = ("/usr/bin/python3", "-c", EATER, engine, group_of(machine))
            # Where the engine's memory does not come back within the same fault, the kernel takes
            # the eater too.
            machine.run(*command, check=False)
            begin = time.monotonic()
            assert service.ask_until_answered(client) == before
            back_s.append(time.monotonic() - begin)
            assert service.main_pid(machine) == front
            assert service.restarts(machine) == 0
            status = service.status(machine)
            assert status["engine"]["restarts"] == number % FORGIVEN + 1
    assert "killed by SIGKILL" in machine.journal("-u", "qwend.service")
    print(f"{OOMS} times the engine; answered again {max(back_s):.2f} s later at most")
