"""The CPU governor is set while qwend runs, and the one before is back however that ends.

On a fake cpufreq tree over /sys: this is about the units, so the scripted backend does.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot
from tests.systemd.fake_cpu import CPUFREQ
from tests.systemd.machine import Machine

pytestmark = pytest.mark.row("H3")

BEFORE, WHILE = "powersave", "performance"
CONFIG = f'[engine]\nbackend = "scripted"\n[host]\ngovernor = "{WHILE}"\n'
NO_RESTART = "[Service]\nRestart=no\n"
RECORD = "/var/lib/qwend-host/governor.json"


def governors(machine: Machine) -> set[str]:
    found = machine.path(CPUFREQ).glob("policy*/scaling_governor")
    return {each.read_text().strip() for each in found}


def started(boot: Boot, **options: object) -> Machine:
    machine = boot(config=CONFIG, governor=BEFORE, **options)
    assert governors(machine) == {BEFORE}
    service.start(machine)
    assert governors(machine) == {WHILE}
    return machine


def stop(machine: Machine) -> None:
    machine.systemctl("stop", "qwend")


def kill_every_process(machine: Machine) -> None:
    machine.systemctl("kill", "--signal=KILL", "qwend")


@pytest.mark.parametrize("end", [stop, kill_every_process])
def test_the_governor_is_back_after(boot: Boot, end: Callable[[Machine], None]) -> None:
    machine = started(boot, service=NO_RESTART)
    end(machine)
    machine.wait_until(lambda: governors(machine) == {BEFORE}, "the governor from before")
    machine.wait_until(
        lambda: machine.property("qwend-host", "ActiveState") == "inactive", "the end of its unit"
    )
    assert not machine.path(RECORD).exists()


def test_the_governor_stays_while_the_service_is_only_started_again(boot: Boot) -> None:
    machine = started(boot)
    since = machine.property("qwend-host", "ActiveEnterTimestampMonotonic")
    kill_every_process(machine)
    machine.wait_until(lambda: service.restarts(machine) == 1, "the restart")
    machine.wait_until(
        lambda: machine.property("qwend", "ActiveState") == "active", "the service to be back"
    )
    assert governors(machine) == {WHILE}
    assert machine.property("qwend-host", "ActiveEnterTimestampMonotonic") == since


def test_the_governor_from_before_a_power_cut_is_back_after_the_next_run(boot: Boot) -> None:
    """The record is on the disk, and /sys as it was left: as with a machine that was only
    suspended, or a container whose PID 1 was killed. A kernel that starts anew has its own."""
    machine = started(boot)
    record = machine.path(RECORD).read_text()
    machine.cut_power()
    again = boot(config=CONFIG, governor=WHILE)
    again.write(RECORD, record)
    assert governors(again) == {WHILE}
    service.start(again)
    assert governors(again) == {WHILE}
    again.systemctl("stop", "qwend")
    again.wait_until(lambda: governors(again) == {BEFORE}, "the governor from before the cut")


def test_a_machine_that_refuses_is_still_answered(boot: Boot) -> None:
    """None of its policies offers the governor that is asked for."""
    machine = boot(config=CONFIG.replace(WHILE, "ondemand"), governor=BEFORE)
    service.start(machine)
    assert governors(machine) == {BEFORE}
    with service.connect(machine) as client:
        assert client.ping() > 0
