"""After many clients that ended in many ways the daemon is as it was."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

import psutil
import pytest

from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until

CONNECTIONS = 200
ASK = {"op": "complete", "id": 1, "prompt": "hello"}


def leave_in_some_way(daemon: RunningDaemon, way: int) -> None:
    with RawClient(daemon.socket, hello=way != 0) as raw:
        match way:
            case 0 | 1:
                pass
            case 2:
                raw.send(ASK)
            case 3:
                raw.send(ASK)
                raw.read_until("token")
            case 4:
                raw.send({**ASK, "max_tokens": 3})
                raw.read_until("done")
            case 5:
                raw.send_bytes(bytes(4))
                raw.read_to_the_end()
            case 6:
                raw.send(ASK)
                raw.socket.shutdown(socket.SHUT_WR)
                raw.read_to_the_end()
            case 7:
                raw.send(ASK)
                raw.send({"op": "cancel", "id": 1})
                raw.read_until("done")
            case 8:
                raw.send_bytes(b"\x00\x00\x01\x00half")
            case _:
                raw.send({**ASK, "credit": 0, "deadline_s": 3600})
                raw.read_until("accepted")


def held(process: psutil.Process) -> tuple[int, int]:
    return process.num_fds(), process.num_threads()


@pytest.mark.parametrize("seed", [1])
def test_descriptors_threads_and_requests_are_as_before(seed: int) -> None:
    ways = random.Random(seed)
    with running_daemon(
        script={"answer": "x", "endless": True, "step_s": 0.0005}, QWEND_CACHE_PREFIX_MB="1"
    ) as daemon:
        front = psutil.Process(daemon.process.pid)
        engine = psutil.Process(daemon.engine_pid())
        with daemon.client() as client:
            client.complete("hello", max_tokens=3).wait()
            before = held(front), held(engine)
            memory = front.memory_info().rss
            for _ in range(CONNECTIONS):
                with suppress(AssertionError):  # refused as busy, it has nothing to wait for
                    leave_in_some_way(daemon, ways.randrange(10))
            wait_until(lambda: client.status()["connections"] == 1, "only we are connected")
            wait_until(daemon.is_idle, "nothing is left")
            wait_until(
                lambda: (held(front), held(engine)) == before,
                f"as many descriptors and threads as before, {before}",
            )
            assert front.memory_info().rss - memory < 16 * 2**20
            # is_idle connects too, each time.
            assert client.status()["requests"]["open"] == 0  # type: ignore[index]


def test_descriptors_are_as_before_after_an_engine_died() -> None:
    with running_daemon(script={}) as daemon, daemon.client() as client:
        front = psutil.Process(daemon.process.pid)
        client.complete("hello").wait()
        before = held(front)
        for restarts in range(1, 4):
            psutil.Process(daemon.engine_pid()).kill()
            wait_until(
                lambda restarts=restarts: daemon.status()["engine"]["restarts"] == restarts,
                "there is another engine",
            )
            client.complete("hello").wait()
        wait_until(lambda: held(front) == before, f"as many descriptors as before, {before}")
