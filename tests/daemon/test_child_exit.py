"""The end of a child is told with its return code, by whichever way the kernel has."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import NoReturn

import pytest

from qwend.daemon.child_exit import ended
from tests.support.daemon import DEADLINE_S


def child(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)


def no_pidfd(pid: int) -> NoReturn:
    raise OSError("not implemented")


@pytest.mark.parametrize("kernel", ["with pidfd", "without"])
def test_an_end_is_awaited_while_the_loop_goes_on(
    kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "without":
        monkeypatch.setattr(os, "pidfd_open", no_pidfd)

    async def test() -> None:
        before = set(os.listdir("/proc/self/fd"))
        process = child("import sys; sys.stdin.read(); sys.exit(7)")
        waiting = asyncio.ensure_future(ended(process))
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            assert await waiting == 7
        assert set(os.listdir("/proc/self/fd")) == before

    asyncio.run(test())


def test_one_that_has_ended_before_is_told_at_once() -> None:
    async def test() -> None:
        process = child("pass")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(DEADLINE_S):
            assert await ended(process) in (0, -signal.SIGKILL)

    asyncio.run(test())
