"""The candidates that top-k is given are the ones it would keep of the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from qwend.engine.llama.sampler import GROUP, largest

pytestmark = pytest.mark.llama
VOCAB_SIZE = 151_936  # Qwen2.5


@pytest.mark.parametrize("count", [1, 2, 40, 1000, 1186, 1187, 5000, VOCAB_SIZE])
@pytest.mark.parametrize("size", [VOCAB_SIZE, VOCAB_SIZE - 1, 259, GROUP - 1])
def test_all_of_the_largest_are_there(count: int, size: int) -> None:
    logits = np.random.default_rng(count).normal(size=size).astype(np.float32)
    wanted = np.argsort(logits)[-count:]
    assert set(wanted) <= set(largest(logits, count))


def test_they_are_few() -> None:
    logits = np.random.default_rng(7).normal(size=VOCAB_SIZE).astype(np.float32)
    assert len(largest(logits, 40)) < 100


def test_ties_are_all_kept() -> None:
    logits = np.zeros(VOCAB_SIZE, dtype=np.float32)
    assert len(largest(logits, 40)) == VOCAB_SIZE


def test_the_largest_beyond_the_last_whole_group_is_found() -> None:
    logits = np.zeros(GROUP * 10 + 3, dtype=np.float32)
    logits[-1] = 1.0
    assert len(logits) - 1 in largest(logits, 1)


def test_a_number_that_is_none_is_kept_to_be_found() -> None:
    logits = np.random.default_rng(7).normal(size=VOCAB_SIZE).astype(np.float32)
    logits[123] = np.nan
    assert 123 in largest(logits, 40)
