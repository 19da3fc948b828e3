"""The engine is told the least of all limits, once, and each new engine again."""

from __future__ import annotations

from qwend.daemon.thread_limit import ThreadLimit
from qwend.engine import hop
from tests.daemon.fakes import FakeEngine


def test_the_least_of_all_limits_counts() -> None:
    limit, engine = ThreadLimit(), FakeEngine()
    limit.attach(engine)
    limit.ask("heat", 3)
    limit.ask("cpus", 2)
    limit.ask("cpus", 0)
    limit.ask("heat", 0)
    assert engine.messages == [hop.limit(3), hop.limit(2), hop.limit(3), hop.limit(0)]


def test_what_changes_nothing_is_not_told() -> None:
    limit, engine = ThreadLimit(), FakeEngine()
    limit.attach(engine)
    limit.ask("heat", 0)
    limit.ask("heat", 2)
    limit.ask("cpus", 4)
    limit.ask("cpus", 4)
    assert engine.messages == [hop.limit(2)]
    assert limit.threads == 2


def test_a_new_engine_is_told_what_was_asked_before_it_started() -> None:
    limit, first, second = ThreadLimit(), FakeEngine(), FakeEngine()
    limit.ask("heat", 2)
    limit.attach(first)
    limit.attach(second)
    assert first.messages == second.messages == [hop.limit(2)]
