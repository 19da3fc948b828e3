"""The status map: each figure from where it is kept, and keys that stay."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest

from qwend.daemon.broker import Broker
from qwend.daemon.model import HeldModel
from qwend.daemon.state import Condition, DaemonState
from qwend.daemon.status import (
    daemon_status,
    engine_status,
    model_status,
    resident_bytes,
    user_counts,
)
from qwend.daemon.supervisor import EngineState, Supervisor
from qwend.engine.events import Gauges
from qwend.models import GgufFacts, ModelFile
from tests.daemon.fakes import FakeEngine, FakeOwner, FakeTimers, complete, config_with, finished


@dataclass
class FakeSupervisor:
    state: EngineState = EngineState.READY
    reason: str = ""
    pid: int = 0
    restarts: int = 0
    description: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def broker() -> Broker:
    timers = FakeTimers()
    return Broker(config_with(running_per_uid=1), timers.clock, timers.call_later)


def engine_map(broker: Broker, **fields: Any) -> dict[str, Any]:
    return engine_status(cast(Supervisor, FakeSupervisor(**fields)), broker, "scripted")


def status_map(broker: Broker, state: DaemonState | None = None) -> dict[str, Any]:
    return daemon_status(
        state=state or DaemonState(),
        uptime_s=12.34567,
        socket="/run/qwend/qwend.sock",
        connections=3,
        broker=broker,
        engine=engine_map(broker, pid=os.getpid()),
        model=model_status(None, "scripted", 0),
        host={"cpu": {"threads": 2, "cpus": [0, 1]}},
    )


def test_every_key_of_the_protocol_is_there_before_the_engine_has_said_anything(
    broker: Broker,
) -> None:
    status = status_map(broker)
    assert set(status) == {
        "server",
        "pid",
        "uptime_s",
        "state",
        "stage",
        "degraded",
        "needs_restart",
        "model",
        "models",
        "switching",
        "engine",
        "host",
        "speed",
        "connections",
        "users",
        "requests",
        "socket",
        "memory",
    }
    assert status["speed"] == {"decode_tok_s": 0.0, "prefill_tok_s": 0.0}
    assert status["requests"] == {"accepted": 0, "done": 0, "failed": 0, "open": 0, "parked": 0}
    assert status["memory"]["front_rss_bytes"] > 0
    assert msgpack.unpackb(msgpack.packb(status)) == status


def test_requests_are_the_journals(broker: Broker) -> None:
    owner, engine = FakeOwner(), FakeEngine()
    broker.lines.attach(engine)
    for client_id in range(3):
        broker.submit(owner, complete(client_id))
    broker.handle([finished(engine.submitted[0])])
    broker.drop(FakeOwner())
    broker.cancel(owner, 2)
    requests = {"accepted": 3, "done": 2, "failed": 0, "open": 1, "parked": 0}
    assert status_map(broker)["requests"] == requests


def test_one_whose_client_is_gone_for_now_is_not_open(broker: Broker) -> None:
    owner = FakeOwner()
    broker.submit(owner, complete(0, resume="a key of mine"))
    broker.drop(owner)
    requests = status_map(broker)["requests"]
    assert isinstance(requests, dict)
    assert (requests["open"], requests["parked"]) == (0, 1)


def test_the_engines_part_is_its_gauges_and_its_own_description(broker: Broker) -> None:
    broker.handle([Gauges(9, 3, 1, 400, 5000, 50.126, 200.0)])
    engine = engine_map(broker, restarts=2, description={"build": "fake", "threads": 2})
    assert (engine["running"], engine["waiting"]) == (3, 1)
    assert (engine["used_cells"], engine["prefix_bytes"]) == (400, 5000)
    assert (engine["restarts"], engine["build"], engine["threads"]) == (2, "fake", 2)
    assert status_map(broker)["speed"] == {"decode_tok_s": 50.13, "prefill_tok_s": 200.0}


def test_the_disk_tier_has_a_size_of_its_own(broker: Broker) -> None:
    assert engine_map(broker)["disk_bytes"] == 0
    broker.handle([Gauges(9, 3, 1, 400, 5000, 50.0, 200.0, disk_bytes=700)])
    assert (engine_map(broker)["prefix_bytes"], engine_map(broker)["disk_bytes"]) == (5000, 700)


def test_threads_are_those_it_has_and_those_it_uses_now(broker: Broker) -> None:
    company = {"threads": 1, "planned": 2, "company": True, "since_s": 12.0}
    broker.handle([Gauges(9, 3, 1, 400, 5000, 50.0, 200.0, threads=company)])
    engine = engine_map(broker, description={"threads": 4})
    assert (engine["threads"], engine["threads_now"], engine["threads_alone"]) == (4, 1, 2)
    assert (engine["company"], engine["threads_since_s"]) == (True, 12.0)


def test_company_is_no_degradation(broker: Broker) -> None:
    state = DaemonState()
    state.move(Condition.READY, "")
    company = {"threads": 1, "planned": 2, "company": True, "since_s": 12.0}
    broker.handle([Gauges(9, 3, 1, 400, 5000, 50.0, 200.0, threads=company)])
    status = status_map(broker, state)
    assert (status["state"], status["degraded"]) == ("ready", [])


def test_of_threads_nothing_is_said_before_the_engine_says_it(broker: Broker) -> None:
    broker.handle([Gauges(9, 3, 1, 400, 5000, 50.0, 200.0)])
    assert not {"threads_now", "threads_alone", "threads_since_s", "company"} & set(
        engine_map(broker)
    )


def test_every_key_is_text_whatever_the_engine_counts_by(broker: Broker) -> None:
    engine = engine_map(broker, description={"step_ms": {1: 0.5, 4: 1.0}})
    assert engine["step_ms"] == {"1": 0.5, "4": 1.0}
    msgpack.unpackb(msgpack.packb(engine), strict_map_key=True)


def test_waiting_are_those_here_and_those_at_the_engine(broker: Broker) -> None:
    owner = FakeOwner()
    broker.lines.attach(FakeEngine())
    for client_id in range(3):
        broker.submit(owner, complete(client_id))
    broker.handle([Gauges(9, 1, 1, 400, 0, 50.0, 200.0)])
    assert engine_map(broker)["waiting"] == 3


def test_a_failed_engine_says_why(broker: Broker) -> None:
    engine = engine_map(broker, state=EngineState.FAILED, reason="killed by SIGBUS")
    assert (engine["state"], engine["reason"]) == ("failed", "killed by SIGBUS")


def test_the_state_is_the_daemons_word(broker: Broker) -> None:
    state = DaemonState(degraded=["running from disk"])
    state.move(Condition.READY, "")
    status = status_map(broker, state)
    assert (status["state"], status["degraded"]) == ("degraded", ["running from disk"])


def test_a_held_model_is_described() -> None:
    facts = GgufFacts(
        architecture="qwen2",
        name="Tiny",
        quantization="Q4_0",
        parameter_count=494_032_768,
        context_length=32_768,
        layers=24,
        embedding_length=896,
        head_count=14,
        head_count_kv=2,
        vocab_size=151_936,
        tokenizer="gpt2",
        chat_template=None,
        is_chatml=True,
        split_count=1,
        tensor_bytes=352_000_000,
        head_width=64,
        matrix_bytes={"Q4_0": 200_000_000},
    )
    file = ModelFile("tiny", Path("/m/tiny.gguf"))
    model = HeldModel(file, 3, 1234, "ab" * 32, True, facts, "cd" * 32)
    described = model_status(model, "", 4096)
    assert (described["name"], described["path"]) == ("tiny", "/m/tiny.gguf")
    assert (described["bytes"], described["sha256"], described["warm"]) == (1234, "ab" * 32, True)
    assert described["train_context"] == 4096
    assert model_status(model, "", 0)["train_context"] == 32768


def test_a_process_that_is_not_there_takes_no_memory() -> None:
    assert resident_bytes(0) == 0
    assert resident_bytes(2**22 - 1) == 0
    assert resident_bytes(os.getpid()) > 1_000_000


def test_an_administrator_is_told_of_every_user_and_another_of_itself_alone() -> None:
    connections, requests = {1000: 2, 1001: 1}, {1000: (1, 3), 1002: (0, 0), -1: (1, 0)}
    of_1000 = {"uid": 1000, "connections": 2, "running": 1, "waiting": 3}
    of_1001 = {"uid": 1001, "connections": 1, "running": 0, "waiting": 0}
    assert user_counts(connections, requests, None) == [of_1000, of_1001]
    assert user_counts(connections, requests, 1001) == [of_1001]
    assert user_counts(connections, requests, 1003) == []
