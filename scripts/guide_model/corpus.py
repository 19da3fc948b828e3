"""The corpus in memory: the facts, the training phrasings, and the questions held out of them.

Rule 1: every file under data/ is read here.
Rule 2: this file does not know tokens or how a question is varied.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .phrasing import Pattern, parse

CORPUS = Path(__file__).parent / "data"
OFF_TOPIC = "off_topic"
SMALL_TALK = frozenset({"hello", "thanks", "bye"})
LANGUAGES = ("en", "zh")
# The daemon's default for [chat] system_prompt: what most questions come with.
DEFAULT_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, slots=True)
class Question:
    """A question and the fact that answers it."""

    text: str
    fact: str
    language: str


@dataclass(frozen=True, slots=True)
class PhrasingSet:
    """All patterns of one language, and the fillers they use."""

    language: str
    patterns: dict[str, list[Pattern]]
    fillers: dict[str, list[str]]

    def draw(self, fact: str, rng: random.Random) -> str:
        """Return one phrasing of a question that this fact answers."""
        return rng.choice(self.patterns[fact]).draw(rng, self.fillers)

    def facts(self) -> list[str]:
        """Return the facts in the order of the table, off-topic last."""
        return list(self.patterns)


def load_facts(path: Path = CORPUS / "facts.toml") -> dict[str, dict[str, str]]:
    """Return fact -> language -> answer.

    Raises: ValueError if an answer is missing in a language.
    """
    facts = tomllib.loads(path.read_text(encoding="utf-8"))
    for fact, answers in facts.items():
        if sorted(answers) != sorted(LANGUAGES):
            raise ValueError(f"{path.name}: fact {fact!r} needs exactly the answers {LANGUAGES}")
    return facts


def load_phrasings(language: str) -> PhrasingSet:
    """Return the training phrasings of one language."""
    patterns: dict[str, list[Pattern]] = {}
    fillers: dict[str, list[str]] = {}
    for path in (
        *sorted(CORPUS.glob(f"train_{language}*.txt")),
        CORPUS / f"offtopic_{language}.txt",
    ):
        for head, lines in _sections(path).items():
            kind, name = head.split(" ", 1)
            if kind == "=":
                fillers[name] = [filler for line in lines for filler in line.split("|")]
            else:
                patterns.setdefault(name, []).extend(parse(line) for line in lines)
    return PhrasingSet(language, patterns, fillers)


def load_questions(name: str) -> list[Question]:
    """Return the questions of a set that is not trained on: "dev" or "heldout"."""
    questions = []
    for language in LANGUAGES:
        for head, lines in _sections(CORPUS / f"{name}_{language}.txt").items():
            fact = head.removeprefix("@ ")
            questions += [Question(line, fact, language) for line in lines]
    return questions


def _sections(path: Path) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("@ ", "= ")):
            lines = sections.setdefault(line.strip(), [])
        elif line.strip() and not line.startswith("#"):
            if lines is None:
                raise ValueError(f"{path.name}: a line stands before the first '@ fact'")
            lines.append(line.strip())
    return sections
