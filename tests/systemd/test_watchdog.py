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
