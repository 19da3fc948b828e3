"""Several users ask for more than there is: turns, queues, deadlines, and what stays secret."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.daemon.as_user import as_root, as_user
from tests.support.daemon import RawClient, RunningDaemon, running_daemon, wait_until
from tests.support.rows import reached, times

FLOOD, OTHER = 4920, 4921
ENDS = {"done", "error"}


@contextmanager
def daemon_with(script: dict[str, Any] | None = None, **settings: Any) -> Iterator[RunningDaemon]:
    given = {f"QWEND_{name.upper()}": str(value) for name, value in settings.items()}
    script = {"answer": "x", "endless": True, **(script or {})}
    with running_daemon(script=script, QWEND_SOCKET_MODE="0666", **given) as daemon:
        daemon.admit_everybody()
        yield daemon


def ask(client: RawClient, request_id: int, **fields: Any) -> None:
    client.send({"op": "complete", "id": request_id, "prompt": "hello", **fields})


@as_root
@pytest.mark.row("B6")
def test_who_floods_is_told_busy_and_another_user_is_served() -> None:
    connections, each = times(8, 128), times(40, 79)
    with (
        daemon_with({"step_s": 0.002}) as daemon,
        as_user(FLOOD).connections(str(daemon.socket), connections) as found,
        daemon.client() as victim,
        ExitStack() as undo,
    ):
        flood = [undo.enter_context(RawClient(one)) for one in found]
        for request_id in range(each):
            for client in flood:
                ask(client, request_id, max_tokens=20)
        waits = []
        for _ in range(3):
            done = victim.complete("hello", max_tokens=5).wait()
            assert done.usage.completion_tokens == 5
            assert done.timings is not None
            waits.append(done.timings.queue_s)
        ends: Counter[str] = Counter()
        for client in flood:
            left = each
            while left:
                message = client.read()
                assert message is not None
                if message["op"] not in ENDS:
                    continue
                left -= 1
                ends[message.get("code", message["op"])] += 1
                if message["op"] == "error":
                    assert message["retry_after_s"] > 0
        assert set(ends) == {"done", "busy"}
        assert ends["done"] >= 20, "as many as may run and wait"
        reached("B6", f"{ends}; the other's waits: {max(waits):.3f} s at most")


@as_root
@pytest.mark.row("B6")
def test_a_user_with_one_request_waits_for_no_queue_of_another() -> None:
    """1. One user has the engine's one place and 16 requests more. 2. Another asks for one answer.
    Expected: it is the next, or the one after."""
    with (
        daemon_with(engine_max_sequences=1) as daemon,
        as_user(FLOOD).connected(str(daemon.socket)) as found,
        RawClient(found) as flood,
        daemon.raw() as other,
    ):
        ask(flood, 0, max_tokens=50, credit=10)
        flood.read_until("accepted", id=0)
        for request_id in range(1, 17):
            ask(flood, request_id, max_tokens=50)
        flood.ping()
        ask(other, 1, max_tokens=5, credit=0)
        other.read_until("progress", stage="queued")
        flood.send({"op": "credit", "id": 0, "tokens": 40})
        other.read_until("accepted", id=1)
        # Without credit it keeps the place, so that no more than these can have been before it.
        assert len([one for one in flood.ping() if one["op"] == "done"]) <= 2
        other.send({"op": "credit", "id": 1, "tokens": 5})
        other.read_until("done", id=1)
        flood.read_until("done", id=16)


@as_root
@pytest.mark.row("B2")
@pytest.mark.parametrize("scarce", ["places", "cells"])
def test_who_gives_no_credit_loses_its_request_to_who_waits_for_the_place(scarce: str) -> None:
    """1. One user's request takes all there is, has no credit, and gets none. 2. Another's waits.
    Expected: the first ends with `slow_consumer`, and the second is answered."""
    settings: dict[str, Any] = (
        {"engine_max_sequences": 1} if scarce == "places" else {"model_context": 256}
    )
    with (
        daemon_with(limits_slow_reader_s=0.3, **settings) as daemon,
        as_user(FLOOD).connected(str(daemon.socket)) as found,
        RawClient(found) as idle,
        daemon.raw() as other,
    ):
        ask(idle, 1, max_tokens=240, credit=1)
        idle.read_until("token", id=1)
        ask(other, 1, max_tokens=50)
        error = idle.read_until("error")[-1]
        assert (error["id"], error["code"]) == (1, "slow_consumer")
        assert other.read_until("done")[-1]["usage"]["completion_tokens"] == 50
        assert idle.ping() == [], "it has lost this request alone"


@as_root
@pytest.mark.row("B6")
def test_a_user_that_has_had_its_tokens_is_told_when_to_come_back_and_another_is_served() -> None:
    with (
        daemon_with(limits_tokens_per_minute=100) as daemon,
        as_user(FLOOD).connected(str(daemon.socket)) as found,
        RawClient(found) as client,
    ):
        ask(client, 1, max_tokens=200)
        assert client.read_until("done")[-1]["usage"]["completion_tokens"] == 200
        ask(client, 2, max_tokens=1)
        error = client.read_until("error")[-1]
        assert (error["id"], error["code"]) == (2, "busy")
        assert 0 < error["retry_after_s"] < 65
        client.send({"op": "tokenize", "id": 3, "text": "hello"})
        assert client.read_until("done", id=3)
        with daemon.client() as other:
            assert other.complete("hello", max_tokens=5).wait()


@pytest.mark.row("B5")
def test_requests_that_together_need_far_more_cells_than_there_are_all_end_well() -> None:
    with daemon_with(model_context=1000, cache_prefix_mb=0) as daemon, ExitStack() as undo:
        for at in range(2):
            raw = undo.enter_context(daemon.raw())
            for request_id in range(4):
                ask(raw, request_id, prompt=f"{at}{request_id}" * 50, max_tokens=500)
            for request_id in range(4):
                done = raw.read_until("done", id=request_id)[-1]
                assert done["finish_reason"] == "length"
                assert done["usage"]["completion_tokens"] == 500
        wait_until(daemon.is_idle, "nothing is left")
        assert daemon.status()["requests"]["failed"] == 0


@pytest.mark.row("B7")
def test_what_expires_while_it_waits_is_told_so_in_time_and_never_runs() -> None:
    count = times(64, 512)
    with (
        daemon_with(limits_running_per_uid=1, limits_queued_per_uid=512) as daemon,
        daemon.raw() as raw,
    ):
        ask(raw, 0, max_tokens=2, credit=0)
        raw.read_until("accepted", id=0)
        begin = time.monotonic()
        deadlines = {at: 0.1 + at * times(1, 50) / count for at in range(1, count + 1)}
        for request_id, deadline_s in deadlines.items():
            ask(raw, request_id, deadline_s=deadline_s)
        late = []
        for _ in range(count):
            error = raw.read_until("error")[-1]
            assert error["code"] == "deadline_exceeded"
            assert "0 tokens" in error["message"]
            late.append(time.monotonic() - begin - deadlines.pop(error["id"]))
        assert min(late) >= 0
        raw.send({"op": "credit", "id": 0, "tokens": 2})
        raw.read_until("done", id=0)
        assert raw.ping() == [], "not a word of those that have expired"
        assert daemon.is_idle()
        reached("B7", f"{count} ended {max(late):.3f} s after their deadlines at most")


@as_root
@pytest.mark.row("G6")
def test_what_one_user_has_cached_is_of_no_use_to_another() -> None:
    """Neither in memory, nor while it runs, nor for as long as it is being computed."""
    secret, public = "the secret of one user, " * 20, "something nobody has said, " * 18
    with (
        daemon_with(cache_prefix_mb=16) as daemon,
        as_user(OTHER).connected(str(daemon.socket)) as found,
        RawClient(found) as spy,
        daemon.raw() as owner,
    ):
        ask(owner, 1, prompt=secret, max_tokens=2)
        owner.read_until("done")
        ask(owner, 2, prompt=secret + "and more", max_tokens=5, credit=1)
        assert owner.read_until("accepted")[-1]["cached_tokens"] > len(secret) // 2
        for request_id, prompt in enumerate((secret, public)):
            ask(spy, request_id, prompt=prompt, max_tokens=1)
            assert spy.read_until("accepted", id=request_id)[-1]["cached_tokens"] == 0
            spy.read_until("done", id=request_id)
