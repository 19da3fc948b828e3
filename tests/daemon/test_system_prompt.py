"""The default system prompt is computed ahead of everyone, and in nobody's way."""

from __future__ import annotations

from qwend.daemon.broker import Broker
from qwend.daemon.system_prompt import SystemPrompt
from qwend.engine.request import PUBLIC_UID, EngineRequest, Kind, Priority
from tests.daemon.fakes import FakeEngine, FakeTimers, config_with
from tests.support.daemon import running_daemon


def submitted(system_prompt: str) -> list[EngineRequest]:
    timers, engine = FakeTimers(), FakeEngine()
    broker = Broker(config_with(system_prompt), timers.clock, timers.call_later)
    broker.lines.attach(engine)
    SystemPrompt(broker).prefill()
    return [EngineRequest.from_map(one["request"]) for one in engine.messages]


def test_it_is_public_and_gives_way_to_whoever_waits() -> None:
    (request,) = submitted("Be brief.")
    assert (request.kind, request.uid) == (Kind.PREFILL, PUBLIC_UID)
    assert request.priority is Priority.BACKGROUND


def test_without_one_nothing_is_computed() -> None:
    assert submitted("") == []


def test_it_is_computed_before_anybody_can_ask() -> None:
    with running_daemon(script={}, QWEND_CHAT_SYSTEM_PROMPT='"Be brief."') as daemon:
        requests = daemon.status()["requests"]
        assert (requests["accepted"], requests["done"]) == (1, 1)
        with daemon.client() as client:
            done = client.chat("hello").wait()
        # Every token of it comes from the cache: "Be brief." and what opens and closes it.
        assert done.usage.cached_tokens >= len("Be brief.")
