"""The look at a model's header: facts, or a ModelError of one printable line."""

from __future__ import annotations

import io

from qwend.errors import ModelError
from qwend.models import GgufFacts, check_gguf
from qwend.models.header_check import MAX_CONTEXT, MAX_LAYERS, MAX_WIDTH
from qwend.models.vocabulary_check import MAX_VOCABULARY
from tests.models.support.gguf_builder import number, strings, tiny_model

SAID_CHARS = 2_000


def run(data: bytes) -> None:
    for any_architecture in (False, True):
        try:
            facts = check_gguf(
                io.BytesIO(data), len(data), path="m", allow_any_architecture=any_architecture
            )
        except ModelError as error:
            said = str(error)
            assert said.isprintable()
            assert len(said) < SAID_CHARS
            continue
        check_facts(facts, len(data))


def check_facts(facts: GgufFacts, size: int) -> None:
    assert 1 <= facts.layers <= MAX_LAYERS
    assert 1 <= facts.context_length <= MAX_CONTEXT
    assert 1 <= facts.embedding_length <= MAX_WIDTH
    assert facts.head_count % facts.head_count_kv == 0
    assert 1 <= facts.vocab_size <= MAX_VOCABULARY
    assert facts.head_width >= 1
    # What the engine will map is in the file.
    assert 0 < facts.tensor_bytes <= size
    assert sum(facts.matrix_bytes.values()) <= facts.tensor_bytes


def seeds() -> list[bytes]:
    aligned = tiny_model()
    aligned.alignment = 64
    aligned.fields["general.alignment"] = number(64)
    wordy = tiny_model()
    wordy.fields["general.tags"] = strings(["a", "", "b" * 40])
    old = tiny_model()
    old.version = 2
    kinds = ("qwen2", "qwen3", "qwen3moe", "qwen35", "llama")
    return [
        *(tiny_model(kind).build() for kind in kinds),
        *(model.build() for model in (aligned, wordy, old)),
    ]
