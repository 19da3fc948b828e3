"""What the model answers when nothing disturbs it: a plain loop over the backend.

Owns the answers that everything is compared with. There is no scheduler here, no cache, no draft
and no other sequence: only the prompt, and one token after another. Runs as a program of its own,
so that the process which makes the load has no llama.cpp in it:

    python -m scripts.lib.soak.oracle TEXTS       (prints JSON)

Rule: only what the model is certain about is asked. Where the two likeliest tokens are nearly equal
the order of additions decides, and that differs with the rows of a batch; such a question is no
question of right or wrong, and is left out.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import questions

ROOT = Path(__file__).resolve().parents[3]
# Logits of the guide differ by up to 0.20 between batches of 1 to 128 rows (8 questions, flash
# attention on and off, November 2026); a leader by five times as much stays the leader.
LEAST_MARGIN = 1.0
LEAST_QUESTIONS = 8
CONTEXT = 2048
BLOCK_ROWS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """ids and pieces: the tokens and the bytes each stands for. finish: `stop` or `length`."""

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    finish: str

    @property
    def text(self) -> str:
        return self.text_of(len(self.ids))

    def text_of(self, count: int) -> str:
        """The text of the first tokens; a character that they have only a part of is left out."""
        return b"".join(self.pieces[:count]).decode("utf-8", "ignore")


@dataclass(frozen=True, slots=True)
class Question:
    """ask: the fields of the request but its id."""

    ask: dict[str, Any]
    answer: Answer


@dataclass(frozen=True, slots=True)
class Turn:
    text: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Oracle:
    """left_out: questions whose answer hangs on rounding."""

    questions: tuple[Question, ...]
    conversations: tuple[tuple[Turn, ...], ...]
    left_out: int

    @property
    def long_questions(self) -> list[Question]:
        return [one for one in self.questions if one.ask["op"] == "complete"]


class OracleFailed(Exception):
    """The text says what the model did."""


def ask_oracle(texts: int) -> Oracle:
    """Compute all answers to the first texts, in a process of their own. Raises: OracleFailed."""
    command = [sys.executable, "-m", __name__, str(texts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OracleFailed(f"no answers to compare with: {done.stderr[-2000:]}")
    return from_json(json.loads(done.stdout))


def from_json(read: dict[str, Any]) -> Oracle:
    singles = tuple(Question(_ask(one["ask"]), _answer(one["answer"])) for one in read["questions"])
    talks = tuple(
        tuple(Turn(turn["text"], _answer(turn["answer"])) for turn in talk)
        for talk in read["conversations"]
    )
    if len(singles) < LEAST_QUESTIONS or not talks:
        raise OracleFailed(f"only {len(singles)} questions have a certain answer")
    return Oracle(singles, talks, read["left_out"])


def _ask(fields: dict[str, Any]) -> dict[str, Any]:
    if "logit_bias" in fields:  # JSON has no integer keys
        fields["logit_bias"] = {int(key): bias for key, bias in fields["logit_bias"].items()}
    return fields


def _answer(fields: dict[str, Any]) -> Answer:
    pieces = tuple(piece.encode("latin-1") for piece in fields["pieces"])
    return Answer(tuple(fields["ids"]), pieces, fields["finish"])


# From here on: the program that computes.


class PlainModel:
    """One sequence of a backend, asked one thing after another."""

    def __init__(self, backend: Any, resolver: Any) -> None:
        self._backend = backend
        self._resolver = resolver

    def plain_tokens(self, count: int) -> list[int]:
        """So many tokens that stand for letters."""
        found = []
        for token in range(self._backend.facts.vocab_size):
            piece = self._backend.token_bytes(token)
            if piece.isalpha() and piece.isascii() and not self._backend.ends_answer(token):
                found.append(token)
        # The rarer half, in an order that is not that of the ids.
        return found[-count::2] + found[-count + 1 :: 2]

    def answer(self, ask: dict[str, Any]) -> tuple[Answer, float]:
        """The greedy answer, and by how much the closest of its choices was made (logits)."""
        from qwend.engine.batch import Batch, Row
        from qwend.engine.prompt import prompt_tokens
        from qwend.wire.messages import parse_client

        message = parse_client({**ask, "id": 0})
        request = self._resolver.request(message, request_id=0, uid=0, received_s=0.0)
        backend = self._backend
        prompt = prompt_tokens(request, backend)
        backend.trim(0, 0)
        sampler = backend.open_sampler(request.sampling, tuple(prompt))
        ids: list[int] = []
        margin, finish, last = math.inf, "length", (len(prompt) - 1) % BLOCK_ROWS
        rows = [Row(token, at, 0, at == len(prompt) - 1) for at, token in enumerate(prompt)]
        for at in range(0, len(rows), BLOCK_ROWS):
            block = Batch(tuple(rows[at : at + BLOCK_ROWS]))
            backend.decode(block)
        while len(ids) < request.max_tokens:
            if not request.sampling.logit_bias:
                margin = min(margin, _margin(backend.keep_logits(last)))
            token = sampler.sample(last)
            last = 0
            if backend.ends_answer(token) and not request.sampling.ignore_eos:
                finish = "stop"
                break
            ids.append(token)
            backend.decode(Batch((Row(token, len(prompt) + len(ids) - 1, 0, True),)))
        sampler.close()
        return Answer(tuple(ids), tuple(map(backend.token_bytes, ids)), finish), margin

    def conversation(self, texts: Sequence[str]) -> list[Turn]:
        """The turns up to the first that the model is not certain about."""
        turns: list[Turn] = []
        messages: list[dict[str, str]] = []
        for text in texts:
            messages.append({"role": "user", "content": text})
            answer, margin = self.answer({**questions.chat(text), "messages": messages})
            if margin < LEAST_MARGIN:
                break
            turns.append(Turn(text, answer))
            messages.append({"role": "assistant", "content": answer.text})
        return turns


def _margin(logits: Any) -> float:
    """Between the two largest."""
    import numpy as np

    second, first = np.partition(logits, -2)[-2:]
    return float(first - second)


def _open() -> PlainModel:
    from qwend.config import Config
    from qwend.daemon.resolve import Resolver
    from qwend.engine.llama.backend import open_llama
    from qwend.engine.settings import EngineStart
    from qwend.models.store import guide_path

    settings = EngineStart(backend="llama", model=str(guide_path()), cells=CONTEXT)
    config = Config()
    backend = open_llama(settings, lambda fraction: None)
    return PlainModel(backend, Resolver(config.sampling, config.chat))


def main(texts: int) -> int:
    """texts: how many of them to ask, at most; conversations in proportion."""
    model = _open()
    singles, left_out = [], 0
    for ask in questions.single_questions(model.plain_tokens(questions.CYCLE_TOKENS), texts):
        answer, margin = model.answer(ask)
        if margin < LEAST_MARGIN:
            left_out += 1
        else:
            singles.append({"ask": ask, "answer": _as_json(answer)})
    some = questions.CONVERSATIONS[: max(1, texts // 3)]
    talks = [model.conversation(conversation) for conversation in some]
    result = {
        "questions": singles,
        "conversations": [
            [{"text": turn.text, "answer": _as_json(turn.answer)} for turn in talk]
            for talk in talks
            if talk
        ],
        "left_out": left_out,
    }
    json.dump(result, sys.stdout)
    return 0


def _as_json(answer: Answer) -> dict[str, Any]:
    return {**asdict(answer), "pieces": [piece.decode("latin-1") for piece in answer.pieces]}


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
