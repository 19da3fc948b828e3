"""The held-out questions are held out, and as many as docs/guide-model.md says."""

from __future__ import annotations

from collections import Counter

import pytest

from scripts.guide_model.corpus import (
    LANGUAGES,
    OFF_TOPIC,
    load_facts,
    load_phrasings,
    load_questions,
)
from scripts.guide_model.phrasing import normalise

PHRASINGS = {language: load_phrasings(language) for language in LANGUAGES}


@pytest.mark.parametrize("name", ["heldout", "dev"])
def test_no_pattern_of_the_training_yields_a_question_that_is_not_trained_on(name: str) -> None:
    questions = {language: Counter[str]() for language in LANGUAGES}
    for question in load_questions(name):
        questions[question.language][normalise(question.text)] += 1
    clashes = [
        (text, pattern.source)
        for language, texts in questions.items()
        for patterns in PHRASINGS[language].patterns.values()
        for pattern in patterns
        for text in texts
        if pattern.yields(text, PHRASINGS[language].fillers)
    ]
    assert clashes == []


def test_the_dev_questions_are_not_the_heldout_ones() -> None:
    texts = [normalise(q.text) for name in ("heldout", "dev") for q in load_questions(name)]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_there_are_150_heldout_questions_and_50_off_topic_ones() -> None:
    questions = load_questions("heldout")
    off_topic = [q for q in questions if q.fact == OFF_TOPIC]
    assert (len(questions) - len(off_topic), len(off_topic)) == (150, 50)
    assert {q.fact for q in questions} == set(load_facts())
