"""What is asked: prompts with one certain greedy answer, and conversations of several turns.

Owns texts only. Which of them the model is certain enough about is found by `oracle`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

# Asked of the guide, which knows these; in three languages, so that characters are cut in pieces.
TEXTS = (
    "What is qwend?",
    "How do I stop an answer?",
    "Which systems does qwend run on?",
    "What is a GGUF file?",
    "How do I install qwend on a Raspberry Pi?",
    "Was ist qwend?",
    "How much memory does it need?",
    "What is the prefix cache?",
    "What does qwenctl doctor do?",
    "Where is the socket?",
    "How do I see the status of the daemon?",
    "Can several programs use it at once?",
    "What happens when the engine dies?",
    "Does it need a GPU?",
    "Which models can I use?",
    "什么是 qwend?",
    "Wie beende ich eine Antwort?",
    "How do I change the configuration?",
)
# Turns of one session each; the later ones are asked with all before them as history.
CONVERSATIONS = (
    (
        "Was ist qwend?",
        "How much memory does it need?",
        "What does qwenctl doctor do?",
        "Can several programs use it at once?",
        "Where is the socket?",
        "What is qwend?",
    ),
    (
        "How much memory does it need?",
        "What does qwenctl doctor do?",
        "Which systems does qwend run on?",
        "What is a GGUF file?",
        "Which models can I use?",
        "What happens when the engine dies?",
    ),
    (
        "What is the prefix cache?",
        "What is a GGUF file?",
        "什么是 qwend?",
        "Can several programs use it at once?",
        "What happens when the engine dies?",
        "Which models can I use?",
    ),
    (
        "How do I stop an answer?",
        "How do I see the status of the daemon?",
        "What is the prefix cache?",
        "Does it need a GPU?",
        "Which models can I use?",
        "Which systems does qwend run on?",
    ),
    (
        "Wie beende ich eine Antwort?",
        "Can several programs use it at once?",
        "What happens when the engine dies?",
        "What is the prefix cache?",
        "What is qwend?",
        "How much memory does it need?",
    ),
)

CYCLE_TOKENS = 60
"""Tokens of one round of a cycle; a multiple of nothing that the daemon counts in."""
CYCLE_LENGTHS = (150, 300, 450)
PENALTY = 100.0


def chat(text: str, max_tokens: int = 200) -> dict[str, Any]:
    """The fields of a greedy chat of one turn."""
    messages = [{"role": "user", "content": text}]
    return {"op": "chat", "messages": messages, "max_tokens": max_tokens, "temperature": 0.0}


def cycle(tokens: Sequence[int], prompt: str, length: int) -> dict[str, Any]:
    """A long answer without a near tie: so many tokens in a fixed order, again and again.

    Each token is wanted a little less than the one before, and one that has just been said hardly
    at all. What comes next follows from the tokens before alone, so a stream that goes on with
    another state of its penalties shows it at once.
    """
    return {
        "op": "complete",
        "prompt": prompt,
        "max_tokens": length,
        "temperature": 0.0,
        "repeat_penalty": PENALTY,
        "repeat_last_n": len(tokens) - 1,
        "ignore_eos": True,
        "logit_bias": {token: 1000.0 - 10.0 * at for at, token in enumerate(tokens)},
    }


def single_questions(tokens: Sequence[int], texts: int) -> Iterator[dict[str, Any]]:
    """tokens: at least CYCLE_TOKENS that stand for plain text. texts: so many of them."""
    for text in TEXTS[:texts]:
        yield chat(text)
        yield chat(text, max_tokens=9)
    for at, length in enumerate(CYCLE_LENGTHS):
        turned = [*tokens[at:CYCLE_TOKENS], *tokens[:at]]
        yield cycle(turned, f"Round and round, number {at}:", length)
