"""How often the network, while it learns, would answer with the right fact.

Rule 1: one forward pass per batch: greedy decoding yields the first tokens of an answer exactly
when each of them is the likeliest after the ones before it.
Rule 2: this is for watching the training; the verdict is evaluation.py's, through llama.cpp.
"""

from __future__ import annotations

import torch

from .conversation import Composer
from .corpus import Question
from .network import Network

# Enough to tell any two answers of the table apart.
COMPARED_TOKENS = 12


@torch.no_grad()
def agreeing(network: Network, composer: Composer, questions: list[Question]) -> list[bool]:
    """Return for each question whether the right answer would begin."""
    network.eval()
    result = []
    for start in range(0, len(questions), 32):
        rows = []
        for question in questions[start : start + 32]:
            prompt = composer.prompt(question.text)
            answer = composer.answer(question.fact, question.language)[:COMPARED_TOKENS]
            rows.append((prompt, answer))
        length = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        for row, (prompt, answer) in enumerate(rows):
            ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
        likeliest = network.logits(network(ids)).argmax(-1)
        for row, (prompt, answer) in enumerate(rows):
            at = len(prompt) - 1
            result.append(likeliest[row, at : at + len(answer)].tolist() == list(answer))
    return result
