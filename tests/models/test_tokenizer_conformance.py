"""Our tokenization against llama.cpp's own test texts for Qwen's vocabulary.

1. Take the vocabulary and its .inp / .out files from the cache of `scripts/make-bench-model`.
2. Put the vocabulary into a one-layer model of zeros, which the engine's backend can load.
3. Tokenize every text through that backend: the ids must be llama.cpp's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qwend.models import check_gguf
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from tests.models.support.gguf_builder import one_layer_model

if TYPE_CHECKING:
    from qwend.engine.llama.backend import LlamaBackend

pytestmark = pytest.mark.llama

SEPARATOR = "\n__ggml_vocab_test__\n"
COUNT = 46  # texts, in llama-cpp-python 0.3.36
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
VOCABULARY = CACHE / "qwend" / "bench" / "vocabulary" / "ggml-vocab-qwen2.gguf"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    if not VOCABULARY.exists():
        pytest.skip(f"no {VOCABULARY}: run scripts/make-bench-model --vocab-only")
    from qwend.engine.llama.backend import open_llama
    from qwend.engine.settings import EngineStart

    model = tmp_path_factory.mktemp("vocabulary") / "zeros.gguf"
    model.write_bytes(model_of_zeros(VOCABULARY))
    with model.open("rb") as file:
        check_gguf(file, model.stat().st_size)
    settings = EngineStart("llama", str(model), cells=64, ubatch=16, max_sequences=1)
    with closing(open_llama(settings, lambda _: None)) as opened:
        yield opened


@pytest.mark.parametrize("index", range(COUNT))
def test_a_text_has_the_tokens_that_llama_cpp_expects(backend: LlamaBackend, index: int) -> None:
    texts, expected = texts_and_tokens()
    assert backend.tokenize(texts[index], parse_special=False) == expected[index]


def test_every_text_of_llama_cpp_is_covered(backend: LlamaBackend) -> None:
    texts, expected = texts_and_tokens()
    assert len(texts) == len(expected) == COUNT


def test_the_pieces_of_a_text_are_its_bytes(backend: LlamaBackend) -> None:
    for text in texts_and_tokens()[0]:
        tokens = backend.tokenize(text, parse_special=False)
        assert b"".join(map(backend.token_bytes, tokens)) == text.encode()


def texts_and_tokens() -> tuple[list[str], list[list[int]]]:
    texts = Path(f"{VOCABULARY}.inp").read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
    lines = Path(f"{VOCABULARY}.out").read_text().splitlines()
    return texts, [[int(token) for token in line.split()] for line in lines]


def model_of_zeros(vocabulary: Path) -> bytes:
    """The tokenizer of `vocabulary`, byte for byte, in a model as small as its tokens allow."""
    data = vocabulary.read_bytes()
    with vocabulary.open("rb") as file:
        header = read_header(GgufFile(file, len(data)))
    fields = list(header.fields.values())
    # A field begins with its key and its type; of an array also the elements' type and count.
    starts = [f.offset - (16 if f.is_array else 4) - len(f.key) - 8 for f in fields]
    model = one_layer_model(header.fields["tokenizer.ggml.tokens"].count)
    model.encoded_fields = [
        data[start:end]
        for field, start, end in zip(fields, starts, [*starts[1:], header.data_offset], strict=True)
        if field.key.startswith("tokenizer.")
    ]
    return model.build()
