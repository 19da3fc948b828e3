"""A real engine that is stopped or hangs is noticed, killed and replaced; a busy or a paused one is
let be."""

from __future__ import annotations

import os
import signal
import time

import pytest

from qwend.client import RequestFailed, Token
from tests.daemon.fake_systemd import fake_systemd
from tests.support.daemon import running_daemon, wait_until

pytestmark = pytest.mark.row("F3")

# Decodes of a start: 8 of the calibration, then 1 of the system prompt.
FIRST_REQUEST = 10
QUICK = {"QWEND_ENGINE_HUNG_AFTER_S": "0.5"}


def test_an_idle_engine_that_is_stopped_is_replaced() -> None:
    with running_daemon(script={}, **QUICK) as daemon, daemon.client() as client:
        stopped = daemon.engine_pid()
        os.kill(stopped, signal.SIGSTOP)
        wait_until(lambda: daemon.status()["engine"]["pid"] not in (0, stopped), "another one")
        assert client.chat("hello").wait().finish_reason == "stop"
        assert "the engine hung and was killed" in daemon.log


def test_a_request_that_two_engines_hang_at_is_told_so_and_they_are_replaced() -> None:
    with (
        running_daemon(script={"hang_at_step": FIRST_REQUEST}, **QUICK) as daemon,
        daemon.client() as client,
    ):
        with pytest.raises(RequestFailed, match="hung") as lost:
            client.complete("hello").wait()
        assert lost.value.code == "poison_request"
        wait_until(lambda: daemon.status()["engine"]["restarts"] == 2, "another one")


def test_a_long_prefill_is_no_hanging() -> None:
    """100 steps of 30 ms, six times as long as an engine may be silent."""
    with (
        running_daemon(
            script={"step_s": 0.03}, QWEND_ENGINE_UBATCH="8", QWEND_CHAT_SYSTEM_PROMPT='""', **QUICK
        ) as daemon,
        daemon.client() as client,
    ):
        stream = client.complete("x" * 800, max_tokens=1)
        assert stream.wait().finish_reason == "length"
        assert daemon.status()["engine"]["restarts"] == 0


@pytest.mark.row("D9")
def test_a_daemon_that_was_stopped_with_its_engine_goes_on_with_it() -> None:
    """As at a suspend, or Ctrl-Z: longer than an engine may be silent, and no kill."""
    script = {"answer": "x", "endless": True, "step_s": 0.005}
    with running_daemon(script=script, **QUICK) as daemon, daemon.client() as client:
        engine = daemon.engine_pid()
        stream = client.complete("hello", max_tokens=300)
        assert isinstance(next(iter(stream)), Token)
        for _ in range(2):
            for pid in (daemon.process.pid, engine):
                os.kill(pid, signal.SIGSTOP)
            time.sleep(1.0)  # of it: nothing happens that could be waited for
            for pid in (daemon.process.pid, engine):
                os.kill(pid, signal.SIGCONT)
        assert stream.wait().usage.completion_tokens == 300
        assert daemon.engine_pid() == engine


def test_the_watchdog_is_fed_while_an_engine_prefills_for_longer_than_it_waits() -> None:
    with fake_systemd() as systemd:
        systemd.start_and_wait(
            {"step_s": 0.03},
            WATCHDOG_USEC="500000",
            QWEND_ENGINE_UBATCH="8",
            QWEND_CHAT_SYSTEM_PROMPT='""',
        )
        with systemd.client() as client:
            client.send({"op": "complete", "id": 1, "prompt": "x" * 800, "max_tokens": 1})
            before = systemd.says("WATCHDOG=1")
            client.read_until("done")
            systemd.listen()
            assert systemd.says("WATCHDOG=1") - before >= 6
