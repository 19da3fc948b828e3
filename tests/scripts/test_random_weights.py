"""A tiny shape through the writer: what comes out is what the daemon would accept."""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.models import check_gguf
from scripts.bench_support.qwen_shape import QwenShape
from tests.models.support.gguf_builder import tiny_model

pytest.importorskip("gguf")

TIED = QwenShape("Tiny", 2, 64, 4, 2, 96, 16, tied=True)
UNTIED = QwenShape("Tiny", 2, 64, 4, 2, 96, 20, tied=False)


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("scripts.bench_support.random_weights.IM_END", 6)
    monkeypatch.setattr("scripts.bench_support.random_weights.END_OF_TEXT", 4)
    path = tmp_path / "vocabulary.gguf"
    model = tiny_model()
    model.tensors.clear()
    path.write_bytes(model.build())
    return path


def written(shape: QwenShape, vocabulary: Path, name: str, seed: int = 1) -> Path:
    from scripts.bench_support.random_weights import write_random_model

    target = vocabulary.with_name(name)
    write_random_model(shape, vocabulary, target, seed)
    return target


@pytest.mark.parametrize("shape", [TIED, UNTIED])
def test_the_file_has_the_shape_and_the_padded_vocabulary(
    shape: QwenShape, vocabulary: Path
) -> None:
    path = written(shape, vocabulary, "model.gguf")
    with path.open("rb") as file:
        facts = check_gguf(file, path.stat().st_size)
    assert (facts.layers, facts.embedding_length, facts.vocab_size) == (2, 64, shape.vocabulary)
    assert (facts.head_count, facts.head_count_kv) == (4, 2)
    assert facts.context_length == 32_768
    assert facts.is_chatml
    assert facts.quantization == "F16"
    assert "not for text" in facts.name


def test_one_seed_makes_one_file(vocabulary: Path) -> None:
    first = written(TIED, vocabulary, "first.gguf").read_bytes()
    assert written(TIED, vocabulary, "again.gguf").read_bytes() == first
    assert written(TIED, vocabulary, "other.gguf", seed=2).read_bytes() != first
