"""What runs beside a request changes nothing of its answer, and none of it gets into it.

Greedy answers of the built-in model, alone and beside one to seven random neighbours who came
before it, with it or after it. Each neighbour has a word of its own in its prompt.
QWEND_TEST_PROMPTS sets how many, QWEND_TEST_SEED which.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.request import EngineRequest, SamplingParams
from tests.support.engine import answer, ask, by_request, engine_over, run, user
from tests.support.tiny_model import opened

pytestmark = [pytest.mark.llama, pytest.mark.row("F10")]
PROMPTS = int(os.environ.get("QWEND_TEST_PROMPTS", "12"))
WORDS = ("what", "is", "qwend", "how", "do", "I", "start", "it", "why", "the", "socket", "model")
MOST_NEIGHBOURS = 7


@pytest.fixture
def eight(guide_model: Path) -> Iterator[LlamaBackend]:
    with opened(guide_model, cells=2048, ubatch=64, max_sequences=MOST_NEIGHBOURS + 1) as backend:
        yield backend


def question(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=draw.randint(2, 12))) + "?"


def neighbour(draw: random.Random, canary: str) -> EngineRequest:
    """Of another user, with drafts or without, greedy or not."""
    return ask(
        user(f"{canary} {question(draw)} {canary}"),
        uid=2000 + draw.randrange(3),
        max_tokens=draw.randint(1, 30),
        sampling=SamplingParams(temperature=draw.choice((0.0, 1.0)), seed=draw.randrange(99)),
    )


@pytest.mark.timeout(60 + PROMPTS)
def test_an_answer_beside_others_is_the_answer_alone(eight: LlamaBackend) -> None:
    seed = int(os.environ.get("QWEND_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QWEND_TEST_SEED={seed}")
    draw = random.Random(seed)
    for _ in range(PROMPTS):
        request = ask(user(question(draw)), uid=1, max_tokens=16)
        alone = answer(engine_over(eight, prefix_bytes=0), request)
        canaries = [f"z{draw.randrange(10**6):06}q" for _ in range(draw.randint(1, 7))]
        others = [neighbour(draw, canary) for canary in canaries]
        before = draw.randint(0, len(others))
        engine = engine_over(eight, prefix_bytes=0)
        for other in others[:before]:
            engine.submit(other)
        for _ in range(draw.randint(0, 6)):
            engine.step()
        beside = by_request(run(engine, request, *others[before:]))[request.id]
        assert (beside.ids, beside.text) == (alone.ids, alone.text)
        assert not any(canary in beside.text for canary in canaries)
    print(f"{PROMPTS} answers beside 1 to {MOST_NEIGHBOURS} others, all equal to the answers alone")
