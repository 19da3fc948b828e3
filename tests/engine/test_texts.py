"""Texts that wait for their turn to be tokenized."""

from __future__ import annotations

import pytest

from qwend.engine.request import ChatTurn, EngineRequest
from qwend.engine.texts import SHORT, Text, Texts
from tests.support.engine import ask

pytestmark = pytest.mark.row("A6")


def text_of(request: EngineRequest) -> Text:
    return Text(request, iter(()))


def texts_of(*uids: int) -> tuple[Texts, list[Text]]:
    texts, added = Texts(), [text_of(ask(uid=uid)) for uid in uids]
    for one in added:
        texts.add(one)
    return texts, added


def test_users_take_turns_and_each_ones_texts_do() -> None:
    texts, (first, second, third, other) = texts_of(1, 1, 1, 2)
    turns = [texts.next() for _ in range(8)]
    assert turns == [first, other, second, other, third, other, first, other]


def test_one_that_comes_later_does_not_wait_for_all_before_it() -> None:
    texts, (first, second) = texts_of(1, 1)
    assert texts.next() is first
    newcomer = text_of(ask(uid=2))
    texts.add(newcomer)
    assert [texts.next(), texts.next()] == [second, newcomer]


def test_what_is_removed_has_no_turn() -> None:
    texts, (first, second, other) = texts_of(1, 1, 2)
    texts.remove(first)
    texts.remove(other)
    assert [texts.next(), texts.next()] == [second, second]
    texts.remove(second)
    assert not texts


def test_a_text_is_found_by_its_request() -> None:
    texts, (first, _) = texts_of(1, 2)
    assert texts.find(first.request.id) is first
    texts.remove(first)
    assert texts.find(first.request.id) is None


def test_what_is_short_goes_by_all_of_a_request() -> None:
    assert text_of(ask("x" * SHORT)).is_short
    assert not text_of(ask("x" * (SHORT + 1))).is_short
    assert text_of(ask(range(SHORT))).is_short
    assert not text_of(ask(range(SHORT + 1))).is_short
    assert text_of(ask([ChatTurn("user", "x" * (SHORT - 1))])).is_short
    assert not text_of(ask([ChatTurn("user", "x" * (SHORT // 2))] * 2)).is_short
    assert not text_of(ask([ChatTurn("user", "")] * (SHORT + 1))).is_short
