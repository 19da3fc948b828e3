"""Whatever ends the daemon, it comes back, and who is connected stays connected.

Each test connects, asks, lets the daemon end in one way, and asks again over the same connection:
systemd has kept its descriptor, and the next process has gone on with it. What is printed is the
time from the blow to the whole next answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot
from tests.systemd.machine import Machine

pytestmark = pytest.mark.llama

WATCHDOG = "[Service]\nWatchdogSec=2\n"
MEMORY = "[Service]\nMemoryMax=256M\n"
# Fills the service's control group with processes that are smaller than any of qwend's, so that the
# kernel's victim is one of those; all end once the front is gone.
EATER = """
import mmap, os, sys, time
front, group = sys.argv[1:]
with open(group + "/cgroup.procs", "w") as file:
    file.write("0")
while os.path.exists("/proc/" + front):
    if os.fork() == 0:
        page = mmap.mmap(-1, 8 << 20)
        page.write(bytes(8 << 20))
        while os.path.exists("/proc/" + front):
            time.sleep(0.05)
        os._exit(0)
    time.sleep(0.001)
"""


def restart(machine: Machine) -> None:
    machine.systemctl("restart", "qwend")


def kill_front(machine: Machine) -> None:
    machine.run("kill", "-KILL", service.main_pid(machine))


def kill_everything(machine: Machine) -> None:
    machine.systemctl("kill", "--signal=KILL", "qwend")


def hang_front(machine: Machine) -> None:
    machine.run("kill", "-STOP", service.main_pid(machine))


def run_out_of_memory(machine: Machine) -> None:
    group = machine.property("qwend", "ControlGroup")
    root = "/sys/fs/cgroup/memory" if machine.path("/sys/fs/cgroup/memory").is_dir() else ""
    where = f"{root or '/sys/fs/cgroup'}{group}"
    command = ("/usr/bin/python3", "-c", EATER, service.main_pid(machine), where)
    machine.run(*command, check=False)


@pytest.mark.parametrize(
    ("blow", "drop_in", "own_restart"),
    [
        pytest.param(restart, "", False, id="restart"),
        pytest.param(kill_front, "", True, id="SIGKILL"),
        pytest.param(kill_everything, "", True, id="SIGKILL of every process"),
        pytest.param(hang_front, WATCHDOG, True, id="watchdog abort"),
        pytest.param(run_out_of_memory, MEMORY, True, id="OOM kill"),
    ],
)
def test_an_idle_client_is_answered_over_its_old_connection_after(
    boot: Boot, blow: Callable[[Machine], None], drop_in: str, own_restart: bool
) -> None:
    machine = boot(service=drop_in)
    if drop_in is MEMORY and "memory" not in machine.controllers:
        pytest.skip("no memory controller in this machine's control groups")
    service.start(machine)
    with service.connect(machine) as idle:
        before = service.ask(idle)
        front = service.main_pid(machine)
        begin = time.monotonic()
        blow(machine)
        struck = time.monotonic()
        after = service.ask_until_answered(idle)
        end = time.monotonic()
    print(f"answered {end - begin:.2f} s after the blow, which took {struck - begin:.2f} s of it")
    assert after == before
    assert service.main_pid(machine) != front
    assert (service.restarts(machine) > 0) == own_restart


@pytest.mark.row("F3")
def test_a_hung_engine_is_replaced_and_the_front_stays(boot: Boot) -> None:
    machine = boot(config="[engine]\nhung_after_s = 1.0\n")
    service.start(machine)
    with service.connect(machine) as idle:
        before = service.ask(idle)
        front = service.main_pid(machine)
        begin = time.monotonic()
        machine.run("kill", "-STOP", service.engine_pid(machine))
        after = service.ask_until_answered(idle)
    print(f"answered {time.monotonic() - begin:.2f} s after the engine hung, 1 s of it patience")
    assert after == before
    assert service.main_pid(machine) == front
    assert service.restarts(machine) == 0
