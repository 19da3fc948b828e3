"""The sampler chain does what each parameter says."""

from __future__ import annotations

import numpy as np
import pytest

from qwend.engine.llama.backend import LlamaBackend
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.request import SamplingParams
from qwend.errors import EngineBug, ModelError
from tests.support.tiny_model import END, VOCAB_SIZE, feed, logits

pytestmark = pytest.mark.llama
PROMPT = b"what comes next"
COUNT = 24


def params(**fields: object) -> SamplingParams:
    """Everything off but what is named."""
    neutral: dict[str, object] = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    return SamplingParams(**(neutral | fields))  # type: ignore[arg-type]


def generate(backend: LlamaBackend, how: SamplingParams, count: int = COUNT) -> list[int]:
    """The next tokens after PROMPT; sequence 0 is empty again afterwards."""
    sampler = backend.open_sampler(how, tuple(PROMPT))
    try:
        output, at, tokens = feed(backend, 0, PROMPT), len(PROMPT), []
        for _ in range(count):
            tokens.append(sampler.sample(output))
            output, at = feed(backend, 0, tuple(tokens[-1:]), at), at + 1
        return tokens
    finally:
        sampler.close()
        backend.trim(0, 0)


def test_greedy_takes_the_largest_logit(backend: LlamaBackend) -> None:
    sampler = backend.open_sampler(params(), ())
    row = feed(backend, 0, PROMPT)
    assert sampler.sample(row) == logits(backend, row).argmax()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 0.0},
        {"temperature": 1.0, "min_p": 1.0},
        {"temperature": 1e-4},
        {"logit_bias": ((3, 0.0),)},
        {"repeat_penalty": 1.0, "repeat_last_n": 0},
    ],
)
def test_whatever_leaves_only_the_best_is_greedy(
    backend: LlamaBackend, fields: dict[str, object]
) -> None:
    assert generate(backend, params(**fields)) == generate(backend, params())


def test_a_seed_is_reproducible_and_another_differs(backend: LlamaBackend) -> None:
    first = generate(backend, params(temperature=1.0, seed=7))
    assert generate(backend, params(temperature=1.0, seed=7)) == first
    assert generate(backend, params(temperature=1.0, seed=8)) != first


def test_the_largest_seed_works(backend: LlamaBackend) -> None:
    how = params(temperature=1.0, seed=(1 << 32) - 1)
    assert len(generate(backend, how, 3)) == 3


def test_logit_bias_forces_and_forbids(backend: LlamaBackend) -> None:
    assert set(generate(backend, params(logit_bias=((65, 1e4),)))) == {65}
    unbiased = generate(backend, params())
    forbidden = generate(backend, params(logit_bias=((unbiased[0], -1e4),)))
    assert unbiased[0] not in forbidden


@pytest.mark.parametrize("token", [VOCAB_SIZE, (1 << 31) - 1, -1])
def test_a_bias_on_a_token_that_is_none_changes_nothing(backend: LlamaBackend, token: int) -> None:
    assert generate(backend, params(logit_bias=((token, 5.0),))) == generate(backend, params())


def test_a_repeat_penalty_makes_it_repeat_less(backend: LlamaBackend) -> None:
    plain = generate(backend, params())
    penalized = generate(backend, params(repeat_penalty=5.0))
    assert len(set(penalized)) > len(set(plain))


def test_a_repeat_penalty_looks_back_on_the_prompt(backend: LlamaBackend) -> None:
    plain = generate(backend, params(), 1)[0]
    row = feed(backend, 0, PROMPT)
    assert logits(backend, row)[plain] > 0
    sampler = backend.open_sampler(params(repeat_penalty=100.0), (plain,))
    assert sampler.sample(row) != plain
    sampler.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1.0},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.5, "top_k": 40, "top_p": 0.95, "min_p": 0.01},
        {"temperature": 0.0, "repeat_penalty": 3.0, "repeat_last_n": 7},
        {"temperature": 1.0, "repeat_penalty": 3.0, "repeat_last_n": 7},
    ],
)
@pytest.mark.parametrize("chosen", [1, 13])
def test_one_that_goes_on_for_another_chooses_what_that_would_have_chosen(
    backend: LlamaBackend, fields: dict[str, object], chosen: int
) -> None:
    how = params(seed=11, **fields)
    numbers = np.random.default_rng(3)  # the same few tokens are likely in each row
    rows = numbers.normal(0, 3, VOCAB_SIZE) + numbers.normal(0, 0.5, (COUNT, VOCAB_SIZE))
    rows = rows.astype(np.float32)
    first = backend.open_sampler(how, tuple(PROMPT))
    whole = [first.sample_kept(row.copy()) for row in rows]
    second = backend.open_sampler(how, tuple(PROMPT), tuple(whole[:chosen]))
    assert [second.sample_kept(row.copy()) for row in rows[chosen:]] == whole[chosen:]
    first.close()
    second.close()


def test_ignore_eos_never_ends(backend: LlamaBackend) -> None:
    # The end tokens are made the best choice by far, and then forbidden.
    wanted = tuple((token, 1e3) for token in range(END, VOCAB_SIZE) if backend.ends_answer(token))
    assert backend.ends_answer(generate(backend, params(logit_bias=wanted), 1)[0])
    how = params(logit_bias=wanted, ignore_eos=True)
    assert not any(backend.ends_answer(token) for token in generate(backend, how))


@pytest.mark.row("E4")
@pytest.mark.parametrize("fields", [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 5}])
def test_logits_that_are_no_numbers_are_noticed(
    backend: LlamaBackend, fields: dict[str, object]
) -> None:
    # What a model file gives that was overwritten while it was in use.
    row = feed(backend, 0, PROMPT)
    raw = llama_cpp.llama_get_logits_ith(backend._context, row)
    np.ctypeslib.as_array(raw, (VOCAB_SIZE,))[:] = np.nan
    sampler = backend.open_sampler(params(**fields), ())
    with pytest.raises(ModelError, match="file has changed"):
        sampler.sample(row)
    sampler.close()


def test_a_row_without_logits_is_our_bug_and_not_an_abort(backend: LlamaBackend) -> None:
    row = feed(backend, 0, PROMPT)
    for how in (params(), params(temperature=1.0)):
        sampler = backend.open_sampler(how, ())
        with pytest.raises(EngineBug, match="no logits"):
            sampler.sample(row - 1)
        sampler.close()


def test_closing_twice_is_harmless(backend: LlamaBackend) -> None:
    sampler = backend.open_sampler(params(temperature=1.0), ())
    sampler.close()
    sampler.close()
