"""What the front asks of a running engine because of the machine: fewer threads, less memory."""

from __future__ import annotations

import socket
from pathlib import Path

from qwend.engine import hop
from qwend.engine.company import Company
from qwend.engine.engine import Engine, EngineSettings
from qwend.engine.events import Gauges
from qwend.engine.hop_socket import HopSocket
from qwend.engine.prefix_cache import PrefixCache
from qwend.engine.scripted import Script, ScriptedBackend
from qwend.engine.snapshot_store import SnapshotStore
from qwend.engine.step_cost import StepCost
from qwend.engine.worker import Worker
from tests.support.engine import Clock, answer, ask, engine_over, run

LONG = "the quick brown fox jumps over the lazy dog"


def gauges_of(engine: Engine) -> Gauges:
    """Those of one step in which nothing else happens."""
    (gauges,) = engine.step()
    assert isinstance(gauges, Gauges)
    return gauges


def test_a_limit_of_threads_holds_from_the_next_step_on_and_is_told() -> None:
    backend = ScriptedBackend(Script())
    cost = StepCost({1: 1e-9})
    company = Company(cost, {}, threads=4, planned=4)
    engine = Engine(backend, cost, EngineSettings(), Clock(), company=company)
    engine.limit_threads(2)
    assert backend.threads == 2
    threads = gauges_of(engine).threads
    assert threads is not None
    assert (threads["threads"], threads["company"]) == (2, False)
    assert engine.step() == []
    engine.limit_threads(0)
    assert backend.threads == 4


def test_the_worker_hands_on_what_the_front_asks_for() -> None:
    backend = ScriptedBackend(Script())
    cost = StepCost({1: 1e-9})
    company = Company(cost, {}, threads=4, planned=4)
    engine = Engine(backend, cost, EngineSettings(), Clock(), company=company)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        worker = Worker(HopSocket(ours))
        worker._dispatch(engine, hop.limit(2))
        assert backend.threads == 2
        worker._dispatch(engine, hop.shrink(12345))
        assert engine.prefix_cache.limit_bytes == 12345


def test_without_a_controller_of_threads_a_limit_is_none() -> None:
    backend = ScriptedBackend(Script())
    engine = engine_over(backend)
    engine.limit_threads(2)
    assert backend.threads == 1
    assert answer(engine, ask("x")).text == "x"


def test_a_smaller_cache_is_small_at_once_and_stays_small() -> None:
    engine = engine_over(ScriptedBackend(Script()))
    run(engine, ask(LONG))
    assert gauges_now(engine) > 0
    engine.shrink(0)
    assert gauges_of(engine).prefix_bytes == 0
    run(engine, ask(LONG))
    assert gauges_now(engine) == 0
    engine.shrink(1 << 20)
    run(engine, ask(LONG))
    assert gauges_now(engine) > 0


def test_what_leaves_memory_goes_to_disk_where_there_is_one(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path / "kept", 1 << 20, b"f" * 32)
    backend = ScriptedBackend(Script())
    engine = Engine(
        backend,
        StepCost({1: 1e-9}),
        EngineSettings(),
        Clock(),
        prefix_cache=PrefixCache(1 << 20, store),
    )
    run(engine, ask(LONG))
    engine.shrink(0)
    gauges = gauges_of(engine)
    assert (gauges.prefix_bytes, gauges.disk_bytes > 0) == (0, True)
    assert answer(engine, ask(LONG)).started.cached_tokens > 0
    store.close()


def gauges_now(engine: Engine) -> int:
    return engine.prefix_cache.used_bytes
