"""The engine dies: every stream goes on at its next token, and it does not go on for ever. F1"""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from qwend.client import Progress, RequestFailed, Token, TokenStream
from qwend.daemon.blame import GETS_ON_TOKENS
from qwend.daemon.supervisor import MOST_DEATHS
from tests.support.daemon import RunningDaemon, running_daemon, wait_until

pytestmark = pytest.mark.row("F1")
# Decodes of a start: 8 of the calibration, then 1 of the system prompt.
FIRST_PREFILL = 9


def engine_is_back(daemon: RunningDaemon, restarts: int) -> bool:
    status = daemon.status()
    return bool(status["engine"]["restarts"] == restarts and status["state"] == "ready")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_stream_goes_on_at_its_next_token_after_a_death(number: signal.Signals) -> None:
    with running_daemon(script={"step_s": 0.002}) as daemon, daemon.client() as client:
        # With credit, so that it is not through before the engine is killed.
        stream = client.complete("0123456789", ignore_eos=True, max_tokens=600, credit=64)
        events = stream.events()
        assert any(isinstance(event, Token) for event in events)
        os.kill(daemon.engine_pid(), number)
        # Sent at once, while there may be no engine: it waits for the next.
        again = client.chat("hello again")
        stages = [event.stage for event in events if isinstance(event, Progress)]
        assert stages == ["recovering"]
        assert stream.text == "0123456789" * 60
        done = stream.wait()
        assert (done.finish_reason, done.usage.completion_tokens) == ("length", 600)
        assert again.wait().finish_reason == "stop"
        assert again.text == "hello again"
        wait_until(lambda: engine_is_back(daemon, 1), "status says that it is back")
        assert daemon.status()["engine"]["pid"] != 0
        assert daemon.status()["requests"]["failed"] == 0


def test_streams_outlive_several_deaths_all_together() -> None:
    with running_daemon(script={"step_s": 0.002}) as daemon, daemon.client() as client:
        streams = [
            client.complete(f"{number} and on ", ignore_eos=True, max_tokens=900, credit=64)
            for number in range(4)
        ]
        for death in range(3):
            for stream in streams:
                read_on(stream, after_a_death=death > 0)
            os.kill(daemon.engine_pid(), signal.SIGKILL)
            wait_until(lambda count=death + 1: engine_is_back(daemon, count), "it is back")
        for number, stream in enumerate(streams):
            stream.wait()
            assert stream.text == (f"{number} and on " * 100)[:900]


def read_on(stream: TokenStream, *, after_a_death: bool) -> None:
    """So far beyond the last death that another one over the same requests is no suspicion."""
    reached = None if after_a_death else 0
    for event in stream.events():
        if isinstance(event, Progress) and event.stage == "recovering":
            reached = event.done
        if reached is not None and len(stream.text) >= reached + 2 * GETS_ON_TOKENS:
            return


def test_a_request_that_the_engine_dies_of_twice_is_refused_and_nobody_else() -> None:
    """It dies at the step that follows the prompt's; others wait for their first token."""
    with running_daemon(script={"die_at_step": FIRST_PREFILL + 1}) as daemon:
        with daemon.client() as client:
            with pytest.raises(RequestFailed, match="SIGKILL") as caught:
                client.complete("poison", max_tokens=50).wait()
            assert caught.value.code == "poison_request"
            assert daemon.status()["engine"]["restarts"] >= 1
            with pytest.raises(RequestFailed) as refused:
                client.complete("poison", max_tokens=50).wait()
            assert refused.value.code == "poison_request"
            wait_until(lambda: daemon.status()["state"] == "ready", "it is back")
            assert client.tokenize("hello")
        assert daemon.status()["engine"]["restarts"] == 2


def test_a_request_that_waited_is_answered_after_the_death() -> None:
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
        assert running.wait().finish_reason == "length"
        wait_until(daemon.is_idle, "nothing is left")
        assert daemon.status()["requests"]["failed"] == 0


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
        assert status["requests"]["open"] == 1
        wait_until(lambda: engine_is_back(daemon, 1), "it is back")


def test_an_engine_that_keeps_dying_is_given_up_and_everybody_is_told_why() -> None:
    """It dies at each request."""
    with running_daemon(script={"die_at_step": FIRST_PREFILL + 1}) as daemon:
        with daemon.client() as early:
            codes = []
            for number in range(MOST_DEATHS // 2 + 1):  # each but the last costs two engines
                with pytest.raises(RequestFailed) as lost:
                    early.complete(f"hello {number}").wait()
                codes.append(lost.value.code)
            assert codes == ["poison_request"] * len(codes)
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
