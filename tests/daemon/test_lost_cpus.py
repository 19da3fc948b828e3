"""CPUs are taken from a running daemon, as a control group does it, and given back.

1. A daemon with the built-in model computes on at least two CPUs.
2. Its front and every thread of its engine may use one of them only.
3. The plan becomes one thread, the engine follows, and answers; nothing is degraded.
4. All CPUs are there again, and so is the plan.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import pytest

from tests.support.daemon import RunningDaemon, running_daemon, wait_until

pytestmark = pytest.mark.llama


def may_use(daemon: RunningDaemon, cpus: set[int]) -> None:
    for pid in (daemon.process.pid, daemon.engine_pid()):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cpus)


def planned(daemon: RunningDaemon) -> list[int]:
    return sorted(daemon.status()["host"]["cpu"]["cpus"])


def answered(daemon: RunningDaemon) -> dict[str, Any]:
    with daemon.client() as client:
        assert client.chat("What is qwend?", max_tokens=20, temperature=0).wait().usage
    return daemon.status()


def about_cpus(status: dict[str, Any]) -> list[str]:
    return [reason for reason in status["degraded"] if "CPUs" in reason]


@pytest.mark.row("H1")
def test_the_engine_goes_on_with_the_cpus_that_are_left() -> None:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    with running_daemon(QWEND_ENGINE_BACKEND="llama") as daemon:
        before = planned(daemon)
        if len(before) < 2:
            pytest.skip("these CPUs are threads of one core")
        left = before[0]
        may_use(daemon, {left})
        wait_until(lambda: planned(daemon) == [left], "the plan is the CPU that is left")
        status = answered(daemon)
        assert status["engine"]["threads_now"] == 1
        assert not status["engine"]["company"]  # it was told, and did not have to find out
        assert not about_cpus(status)
        may_use(daemon, cpus)
        wait_until(lambda: planned(daemon) == before, "the plan is all CPUs again")
        assert not about_cpus(answered(daemon))
        assert daemon.stop() == 0
