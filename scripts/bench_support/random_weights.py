"""Writes a GGUF file of a Qwen2.5 shape: the real tokenizer, seeded random weights in F16.

One tensor is in memory at a time. This file does not know where the result is kept.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from .qwen_shape import CONTEXT_LENGTH, RMS_EPSILON, ROPE_FREQ_BASE, QwenShape

ROWS_AT_ONCE = 4096  # F32 numbers made before they become F16: 58 MB for the widest rows
SCALE = 0.02  # initializer_range of Qwen2.5: keeps activations finite through all layers
IM_END = 151_645  # what ends an answer of an Instruct model
END_OF_TEXT = 151_643


def write_random_model(shape: QwenShape, vocabulary: Path, target: Path, seed: int) -> None:
    writer = gguf.GGUFWriter(target, "qwen2")
    try:
        _add_fields(writer, shape)
        _add_tokenizer(writer, shape, gguf.GGUFReader(vocabulary))
        for name, dims in shape.tensors():
            kind = np.dtype(_kind(dims))
            writer.add_tensor_info(name, dims, kind, int(np.prod(dims)) * kind.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, dims in shape.tensors():
            writer.write_tensor_data(_weights(name, dims, seed))
    finally:
        writer.close()


def _add_fields(writer: gguf.GGUFWriter, shape: QwenShape) -> None:
    writer.add_type("model")
    writer.add_name(f"{shape.name} shape, random weights: for speed, not for text")
    writer.add_block_count(shape.layers)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads_kv)
    writer.add_rope_freq_base(ROPE_FREQ_BASE)
    writer.add_layer_norm_rms_eps(RMS_EPSILON)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, shape: QwenShape, source: gguf.GGUFReader) -> None:
    def contents(key: str) -> Any:
        return source.fields[f"tokenizer.{key}"].contents()

    tokens, types = list(contents("ggml.tokens")), list(contents("ggml.token_type"))
    for index, token in enumerate(tokens):
        if token.startswith("[PAD"):  # "user defined" in the file: would be searched for in text
            types[index] = gguf.TokenType.UNUSED
    missing = range(len(tokens), shape.vocabulary)
    writer.add_tokenizer_model(contents("ggml.model"))
    writer.add_tokenizer_pre(contents("ggml.pre"))
    writer.add_token_list(tokens + [f"[PAD{index}]" for index in missing])
    writer.add_token_types(types + [gguf.TokenType.UNUSED] * len(missing))
    writer.add_token_merges(contents("ggml.merges"))
    writer.add_eos_token_id(IM_END)
    writer.add_pad_token_id(END_OF_TEXT)
    writer.add_bos_token_id(END_OF_TEXT)
    writer.add_add_bos_token(False)
    writer.add_chat_template(contents("chat_template"))


def _kind(dims: tuple[int, ...]) -> type[np.floating[Any]]:
    """Vectors (norms, biases) stay F32, as llama.cpp's converter has them."""
    return np.float32 if len(dims) == 1 else np.float16


def _weights(name: str, dims: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    if name.endswith("norm.weight"):
        return np.ones(dims, np.float32)
    # A generator per tensor: its numbers do not depend on what comes before it.
    source = np.random.default_rng([seed, zlib.crc32(name.encode())])
    weights = np.empty(dims, _kind(dims))
    for start in range(0, dims[0], ROWS_AT_ONCE):
        part = weights[start : start + ROWS_AT_ONCE]
        part[...] = source.standard_normal(part.shape, np.float32) * np.float32(SCALE)
    return weights
