"""The notation of the corpus."""

from __future__ import annotations

import random

import pytest

from scripts.guide_model.noise import cut_points, vary
from scripts.guide_model.phrasing import normalise, parse

FILLERS = {"place": ["Peru", "New York"]}


def test_a_draw_takes_one_of_the_alternatives() -> None:
    pattern = parse("(start|stop) (it|the (old|new) daemon)[ now][?]")
    rng = random.Random(1)
    drawn = {pattern.draw(rng, {}) for _ in range(300)}
    assert len(drawn) == 2 * 3 * 2 * 2
    assert {"start it", "stop the new daemon now?"} <= drawn


def test_a_filler_is_drawn_from_its_list() -> None:
    rng = random.Random(1)
    drawn = {parse("where is <place>").draw(rng, FILLERS) for _ in range(50)}
    assert drawn == {"where is Peru", "where is New York"}


@pytest.mark.parametrize("text", ["Where is PERU?", "where is new york"])
def test_a_pattern_knows_what_it_can_yield_whatever_the_case(text: str) -> None:
    pattern = parse("where (is|was) <place>[?]")
    assert pattern.yields(normalise(text), FILLERS)
    assert not pattern.yields(normalise(text + " now"), FILLERS)


@pytest.mark.parametrize("source", ["(a|b", "[a", "a)", "(a]", "a|b"])
def test_an_unbalanced_pattern_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        parse(source)


def test_the_same_generator_gives_the_same_variation() -> None:
    def varied(seed: int) -> list[str]:
        rng = random.Random(seed)
        return [
            vary("where is the daemon's log?", "en", rng, polite=True, on_topic=True)
            for _ in range(20)
        ]

    assert varied(1) == varied(1)
    assert varied(1) != varied(2)


def test_cutting_words_loses_nothing() -> None:
    text = "where is the configuration file 在哪里"
    assert all("".join(cut_points(text, random.Random(seed))) == text for seed in range(50))
