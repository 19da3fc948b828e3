"""The table of facts and the corpus that leads to it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from qwend.config.schema import Config
from scripts.guide_model.corpus import LANGUAGES, OFF_TOPIC, load_facts, load_phrasings

FACTS = load_facts()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fact_has_phrasings_and_every_phrasing_a_fact(language: str) -> None:
    assert set(load_phrasings(language).patterns) == set(FACTS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_facts_have_the_same_answer(language: str) -> None:
    answers = [answers[language] for answers in FACTS.values()]
    assert len(set(answers)) == len(answers)


def test_an_answer_is_short_enough_to_be_read_at_once() -> None:
    assert [f for f, answers in FACTS.items() if len(answers["en"].split()) > 60] == []


def test_both_languages_name_the_same_commands_and_keys() -> None:
    # Placeholders and examples are translated; what is typed as it stands must be the same.
    translated = {"en": r"your question|Summarise|Hello", "zh": r"你的问题|总结一下|你好"}
    for fact, answers in FACTS.items():
        code = {
            language: {
                word
                for piece in re.findall(r"`([^`]+)`", answers[language])
                for word in re.sub(translated[language], "...", piece).split()
            }
            for language in LANGUAGES
        }
        assert code["en"] == code["zh"], fact


def test_an_answer_missing_in_one_language_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "facts.toml"
    path.write_text('[hello]\nen = "Hello"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="hello"):
        load_facts(path)


def test_every_configuration_key_that_an_answer_names_exists() -> None:
    config = Config()
    known = {
        f"[{table.name}] {key.name}"
        for table in fields(config)
        for key in fields(getattr(config, table.name))
    }
    named = {
        match
        for answers in FACTS.values()
        for match in re.findall(r"\[[a-z]+\] [a-z_]+", answers["en"])
    }
    assert named
    assert named - known == set()


def test_the_refusal_says_what_answers_and_how_to_get_a_real_model() -> None:
    assert "only the built-in guide" in FACTS[OFF_TOPIC]["en"]
    assert all("`qwenctl pull`" in answer for answer in FACTS[OFF_TOPIC].values())
