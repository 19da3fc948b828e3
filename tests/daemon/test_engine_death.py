"""The engine dies: who was served is told, who waited is served, and it does not go on for ever."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from qwend.client import RequestFailed, Token
from qwend.daemon.supervisor import MOST_DEATHS
from tests.support.daemon import RunningDaemon, running_daemon, wait_until

# Decodes of a start: 8 of the calibration, then 1 of the system prompt.
FIRST_PREFILL = 9


def engine_is_back(daemon: RunningDaemon, restarts: int) -> bool:
    status = daemon.status()
    return bool(status["engine"]["restarts"] == restarts and status["state"] == "ready")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_death_ends_what_ran_and_the_next_request_is_answered(number: signal.Signals) -> None:
    with running_daemon(script={"step_s": 0.002}) as daemon, daemon.client() as client:
        stream = client.complete("hello", ignore_eos=True)
        assert isinstance(next(iter(stream)), Token)
        os.kill(daemon.engine_pid(), number)
        with pytest.raises(RequestFailed, match=number.name) as caught:
            stream.wait()
        assert caught.value.code == "engine_lost"
        # Sent at once, while there is no engine: it waits for the next.
        again = client.chat("hello again")
        assert again.wait().finish_reason == "stop"
        assert again.text == "hello again"
        wait_until(lambda: engine_is_back(daemon, 1), "status says that it is back")
        assert daemon.status()["engine"]["pid"] != 0


def test_a_request_that_waited_survives_the_death() -> None:
    with (
        running_daemon(script={"step_s": 0.002}, QWEND_LIMITS_RUNNING_PER_UID="1") as daemon,
        daemon.client() as client,
    ):
        running = client.complete("hello", ignore_eos=True)
        next(iter(running))
        waiting = [client.complete(f"waiting {number}") for number in range(3)]
        wait_until(lambda: daemon.status()["engine"]["waiting"] == 3, "three wait")
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        assert [stream.wait().finish_reason for stream in waiting] == ["stop"] * 3
        assert [stream.text for stream in waiting] == [f"waiting {number}" for number in range(3)]
        with pytest.raises(RequestFailed):
            running.wait()
        wait_until(daemon.is_idle, "nothing is left")
        assert daemon.status()["requests"]["failed"] == 1


def test_while_there_is_no_engine_status_says_so_and_shows_nothing_of_the_dead_one() -> None:
    """The engine dies again and again: in each pause there is none."""
    with running_daemon(script={}) as daemon, daemon.client() as client:
        client.complete("hello", credit=0)
        wait_until(lambda: daemon.status()["engine"]["running"] == 1, "it runs")
        os.kill(daemon.engine_pid(), signal.SIGKILL)
        status = wait_until(
            lambda: (now := client.status())["state"] == "warming" and now, "status says warming"
        )
        assert status["engine"]["running"] == 0
        assert status["engine"]["used_cells"] == 0
        assert status["requests"]["open"] == 0
        wait_until(lambda: engine_is_back(daemon, 1), "it is back")


def test_an_engine_that_keeps_dying_is_given_up_and_everybody_is_told_why() -> None:
    """It dies at each request."""
    with running_daemon(script={"die_at_step": FIRST_PREFILL + 1}) as daemon:
        with daemon.client() as early:
            for _ in range(MOST_DEATHS + 1):
                with pytest.raises(RequestFailed) as lost:
                    early.complete("hello").wait()
                assert lost.value.code == "engine_lost"
            status = daemon.status()
        assert status["state"] == "failed"
        assert "SIGKILL" in status["stage"]
        assert status["engine"]["state"] == "failed"
        assert status["engine"]["restarts"] == MOST_DEATHS
        with daemon.client() as late:
            with pytest.raises(RequestFailed, match="SIGKILL") as refused:
                late.complete("hello").wait()
            assert refused.value.code == "model_error"
            assert late.ping() > 0
        assert daemon.process.poll() is None
        assert psutil.Process(daemon.process.pid).children() == []
        assert daemon.stop() == 0


def test_a_step_that_the_model_refuses_ends_the_request_and_not_the_engine() -> None:
    with running_daemon(script={"fail_at_step": FIRST_PREFILL + 1}) as daemon:
        with daemon.client() as client:
            with pytest.raises(RequestFailed) as caught:
                client.complete("hello").wait()
            assert caught.value.code == "model_error"
            assert client.complete("hello").wait().finish_reason == "stop"
        assert daemon.status()["engine"]["restarts"] == 0


def test_a_killed_daemon_takes_its_engine_along() -> None:
    with running_daemon(script={}) as daemon:
        engine = psutil.Process(daemon.engine_pid())
        daemon.process.kill()
        daemon.process.wait()
        wait_until(lambda: is_gone(engine), "the engine is gone", deadline_s=2)


def is_gone(process: psutil.Process) -> bool:
    """Whoever has inherited it may not have looked after it yet: a zombie holds nothing."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
