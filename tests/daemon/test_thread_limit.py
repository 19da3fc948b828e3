"""The lowest limit of all causes reaches the engine, once per change, and each new engine."""

from __future__ import annotations

from qwend.daemon.thread_limit import ThreadLimit
from qwend.engine import hop
from tests.daemon.fakes import FakeEngine


def test_the_lowest_limit_holds() -> None:
    limit = ThreadLimit()
    assert limit.threads == 0
    limit.set("heat", 3)
    limit.set("battery", 2)
    limit.set("plan", 0)
    assert limit.threads == 2
    limit.set("battery", 0)
    assert limit.threads == 3
    limit.set("heat", 0)
    assert limit.threads == 0


def test_the_engine_hears_of_changes_only() -> None:
    limit, engine = ThreadLimit(), FakeEngine()
    limit.attach(engine)
    limit.set("heat", 0)
    limit.set("heat", 3)
    limit.set("battery", 3)
    limit.set("heat", 0)
    limit.set("battery", 0)
    assert engine.messages == [hop.limit(3), hop.limit(0)]


def test_a_new_engine_hears_what_holds_now() -> None:
    limit, first, second = ThreadLimit(), FakeEngine(), FakeEngine()
    limit.set("heat", 1)
    limit.attach(first)
    limit.attach(second)
    limit.set("heat", 2)
    assert first.messages == [hop.limit(1)]
    assert second.messages == [hop.limit(1), hop.limit(2)]
