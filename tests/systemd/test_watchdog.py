"""The watchdog ends what hangs, and nothing that only takes long."""

from __future__ import annotations

import time

import pytest

from tests.systemd import service
from tests.systemd.conftest import Boot

pytestmark = pytest.mark.llama

WATCHDOG_S = 1.5
PROMPT_TOKENS = 1900
# The guide reads 8,000 tokens/s on two cores: with a share of one core like this it takes seconds.
SHARE = "20%"


def test_a_prompt_that_is_read_for_longer_than_the_watchdog_waits_is_answered(boot: Boot) -> None:
    machine = boot(
        service=f"[Service]\nWatchdogSec={WATCHDOG_S}\n",
        config=f"[engine]\nhung_after_s = {WATCHDOG_S}\n",
    )
    if "cpu" not in machine.controllers:
        pytest.skip("no cpu controller in this machine's control groups")
    service.start(machine)
    with service.connect(machine) as client:
        machine.systemctl("set-property", "--runtime", "qwend.service", f"CPUQuota={SHARE}")
        begin = time.monotonic()
        answer = client.complete(list(range(300, 300 + PROMPT_TOKENS)), max_tokens=1)
        done = answer.wait()
        took_s = time.monotonic() - begin
    print(f"read for {took_s:.1f} s, with a watchdog of {WATCHDOG_S:g} s")
    assert done.usage.prompt_tokens == PROMPT_TOKENS
    assert took_s > 2 * WATCHDOG_S
    assert service.restarts(machine) == 0
    assert service.status(machine)["engine"]["restarts"] == 0


def test_an_engine_that_not_even_a_kill_ends_trips_the_watchdog(boot: Boot) -> None:
    """Frozen, as by a driver that does not come back from the kernel. The front kills it in vain,
    and is then not fed; systemd ends the front, and the next one goes on once the rest is gone."""
    machine = boot(
        service=f"[Service]\nWatchdogSec={WATCHDOG_S}\n",
        config="[engine]\nhung_after_s = 0.5\n",
    )
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
