"""The watchdog ends what hangs, and nothing that only takes long."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot
from tests.systemd.machine import Machine

pytestmark = pytest.mark.llama

WATCHDOG_S = 1.5
# Steps of few rows, so that each is short even for an engine that gets little of the CPU.
SETTINGS = {
    "service": f"[Service]\nWatchdogSec={WATCHDOG_S}\n",
    "config": "[engine]\nhung_after_s = 1.5\nubatch = 16\n",
}
PROMPT_TOKENS = 1200
# The guide reads this in 0.3 s on a quick machine: an engine that has run for 10 of 260 ms each
# time is not through when these rounds are, and after them it runs as it can.
ROUNDS = 11
SLOW = (
    "for round in $(seq {rounds}); do "
    "kill -STOP {pid}; sleep 0.25; kill -CONT {pid}; sleep 0.01; done"
)


@contextmanager
def slow(machine: Machine, pid: str) -> Iterator[None]:
    """The process gets on, but slowly: the rest of the service is as quick as ever."""
    rounds = SLOW.format(rounds=ROUNDS, pid=pid)
    with subprocess.Popen(machine.command("sh", "-c", rounds)) as loop:
        try:
            yield
        finally:
            loop.kill()
            machine.run("kill", "-CONT", pid, check=False)


def test_a_prompt_that_is_read_for_longer_than_the_watchdog_waits_is_answered(boot: Boot) -> None:
    machine = boot(**SETTINGS)
    service.start(machine)
    with service.connect(machine) as client, slow(machine, service.engine_pid(machine)):
        begin = time.monotonic()
        done = client.complete(list(range(300, 300 + PROMPT_TOKENS)), max_tokens=1).wait()
        took_s = time.monotonic() - begin
    print(f"read for {took_s:.1f} s, with a watchdog of {WATCHDOG_S:g} s")
    assert done.usage.prompt_tokens == PROMPT_TOKENS
    assert took_s > 1.5 * WATCHDOG_S
    assert service.restarts(machine) == 0
    assert service.status(machine)["engine"]["restarts"] == 0


def test_an_engine_that_not_even_a_kill_ends_trips_the_watchdog(boot: Boot) -> None:
    """Frozen, as by a driver that does not come back from the kernel. The front kills it in vain,
    and is then not fed; systemd ends the front, and the next one goes on once the rest is gone."""
    machine = boot(**SETTINGS)
    freezer = "/sys/fs/cgroup/freezer/wedge"
    if "freezer" not in machine.controllers:
        pytest.skip("only the freezer of version 1 holds a process against SIGKILL")
    service.start(machine)
    with service.connect(machine) as idle:
        before = service.ask(idle)
        engine = service.engine_pid(machine)
        freeze = f"mkdir {freezer}; echo {engine} >{freezer}/cgroup.procs"
        begin = time.monotonic()
        machine.run("sh", "-c", f"{freeze}; echo FROZEN >{freezer}/freezer.state")
        machine.wait_until(
            lambda: "Watchdog timeout" in machine.journal("-u", "qwend"), "the watchdog"
        )
        tripped_s = time.monotonic() - begin
        machine.write(f"{freezer}/freezer.state", "THAWED")
        assert service.ask_until_answered(idle) == before
    print(f"tripped {tripped_s:.1f} s after the engine froze")
    assert service.restarts(machine) == 1
