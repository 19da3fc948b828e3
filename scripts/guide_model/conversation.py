"""Training conversations: ChatML turns as token ids, each with the weight of its loss.

Rule 1: the rendering is the one the daemon uses; scaffold and content are tokenized apart.
Rule 2: everything random comes from the generator that is passed in.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from .corpus import DEFAULT_SYSTEM, LANGUAGES, OFF_TOPIC, SMALL_TALK, PhrasingSet
from .noise import cut_points, vary
from .tokenizer import Encoder, Vocabulary

_SYSTEMS = (
    "You are terse.",
    "Be brief.",
    "You are the guide of this machine.",
    "Answer in one sentence.",
    "You are a friendly assistant.",
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "Answer the question.",
    "You help the users of this box.",
    "你是一个有用的助手。",
    "请简短回答。",
    "You are an assistant on a small computer without a screen. Speak plainly.",
    "test",
    "Be kind.",
    "You are a robot in a museum and answer the questions of visitors.",
    "You are a careful expert.",
)

# The answer is settled by its fact, so the tokens that choose the fact matter most.
_CHOOSING_TOKENS = 6
_CHOOSING_WEIGHT = 2.0


@dataclass(slots=True)
class Conversation:
    """Token ids and, for each, the weight of predicting it."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, ids: list[int] | tuple[int, ...], weight: float = 0.0) -> None:
        self.ids += ids
        self.weights += [weight] * len(ids)


class Composer:
    """Draws conversations from the corpus."""

    def __init__(
        self,
        facts: dict[str, dict[str, str]],
        phrasings: dict[str, PhrasingSet],
        vocabulary: Vocabulary,
    ) -> None:
        self._facts = facts
        self._phrasings = phrasings
        self._encoder = Encoder(vocabulary)
        self._vocabulary = vocabulary

    def short(self, rng: random.Random) -> Conversation:
        """One question and the first tokens of its answer: the choice of the fact, cheaply."""
        conversation = Conversation() if rng.random() < 0.4 else self._opening(rng)
        self._turn(conversation, rng, _language(rng), answer_tokens=rng.randint(4, 9))
        return conversation

    def full(self, rng: random.Random, earlier_turns: int) -> Conversation:
        """Some turns, each with its whole answer; the language may change on the way."""
        conversation = self._opening(rng)
        language = _language(rng)
        for _ in range(earlier_turns + 1):
            if rng.random() < 0.1:
                language = _language(rng)
            self._turn(conversation, rng, language)
        return conversation

    def prompt(self, question: str) -> list[int]:
        """Return the tokens of a single question with the default system prompt."""
        conversation = Conversation()
        self._message(conversation, "system", DEFAULT_SYSTEM)
        self._message(conversation, "user", question)
        self._header(conversation, "assistant")
        return conversation.ids

    def answer(self, fact: str, language: str) -> tuple[int, ...]:
        return self._encoder.encode(self._facts[fact][language])

    def _opening(self, rng: random.Random) -> Conversation:
        conversation = Conversation()
        draw = rng.random()
        if draw < 0.8:
            self._message(conversation, "system", DEFAULT_SYSTEM)
        elif draw < 0.9:
            system = rng.choice(_SYSTEMS)
            while rng.random() < 0.15:
                system += " " + rng.choice(_SYSTEMS)
            self._message(conversation, "system", system)
        return conversation

    def _turn(
        self,
        conversation: Conversation,
        rng: random.Random,
        language: str,
        answer_tokens: int | None = None,
    ) -> None:
        fact, question = self._question(rng, language)
        self._header(conversation, "user")
        for piece in cut_points(question, rng) if rng.random() < 0.4 else (question,):
            conversation.add(self._encoder.encode(piece))
        self._end(conversation, 0.0)
        self._header(conversation, "assistant")
        answer = self.answer(fact, language)[:answer_tokens]
        conversation.add(answer[:_CHOOSING_TOKENS], _CHOOSING_WEIGHT)
        if answer_tokens is None and rng.random() < 0.04:
            # As after a cancelled answer: the next turn follows on a torso.
            torso = rng.randint(_CHOOSING_TOKENS, len(answer))
            conversation.add(answer[_CHOOSING_TOKENS:torso], 1.0)
            self._end(conversation, 0.0)
            return
        conversation.add(answer[_CHOOSING_TOKENS:], 1.0)
        if answer_tokens is None:
            self._end(conversation, 1.0)

    def _question(self, rng: random.Random, language: str) -> tuple[str, str]:
        phrasings = self._phrasings[language]
        # 12 % off-topic: as much as eight facts, for a class that is wider than any of them.
        fact = OFF_TOPIC if rng.random() < 0.12 else rng.choice(phrasings.facts())
        text = phrasings.draw(fact, rng)
        on_topic = fact != OFF_TOPIC
        if not on_topic and rng.random() < 0.05:
            text = _gibberish(rng, language)
        polite = fact not in SMALL_TALK
        return fact, vary(text, language, rng, polite=polite, on_topic=on_topic)

    def _message(self, conversation: Conversation, role: str, content: str) -> None:
        self._header(conversation, role)
        conversation.add(self._encoder.encode(content))
        self._end(conversation, 0.0)

    def _header(self, conversation: Conversation, role: str) -> None:
        conversation.add([self._vocabulary.im_start, *self._encoder.encode(f"{role}\n")])

    def _end(self, conversation: Conversation, weight: float) -> None:
        conversation.add([self._vocabulary.im_end], weight)
        conversation.add(self._encoder.encode("\n"))


def _language(rng: random.Random) -> str:
    return LANGUAGES[0] if rng.random() < 0.6 else LANGUAGES[1]


def _gibberish(rng: random.Random, language: str) -> str:
    if language == "zh":
        return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(rng.randint(1, 8)))
    words = []
    for _ in range(rng.randint(1, 6)):
        letters = "".join(
            rng.choice("bcdfghklmnprstvwz") + rng.choice("aeiouy") for _ in range(rng.randint(1, 4))
        )
        words.append(letters + rng.choice(("", "", "n", "s", "t", "ck", "ng")))
    return " ".join(words)
