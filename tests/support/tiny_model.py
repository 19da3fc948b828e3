"""A qwen2 of random weights, made in a moment, for the tests that need llama.cpp and no sense.

Its vocabulary is the 256 bytes and ChatML's control tokens, so text of any kind can be forced out
of it. The weights are spread wide: its logits differ by whole units, not by roundings.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from qwend.engine.batch import Batch, Row
from qwend.engine.settings import EngineStart
from tests.models.support.gguf_builder import (
    GgufBuilder,
    TensorSpec,
    integers,
    number,
    real,
    string,
    strings,
)

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END, IM_START, IM_END = 256, 257, 258
VOCAB_SIZE = 259
LAYERS, WIDTH, HEADS, KV_HEADS, HIDDEN, TRAIN_CONTEXT = 2, 64, 2, 1, 128, 1024
HEAD_WIDTH = WIDTH // HEADS  # 32: one block of q8_0, so that the KV cache can be quantized


def byte_tokens() -> list[str]:
    """The 256 bytes as GPT-2 writes them: printable ones as themselves, the others from U+0100."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return [
        chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)
    ]


def write_tiny_model(
    path: Path, *, seed: int = 1, width: int = WIDTH, quantized: bool = False
) -> Path:
    """Another seed is another model of the same shape; another width one of another shape.

    quantized: the matrices of the layers are in Q4_0, which most CPUs have repacked.
    """
    random = Random(seed)
    kv = KV_HEADS * width // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (width, VOCAB_SIZE),
        "output.weight": (width, VOCAB_SIZE),
        "output_norm.weight": (width,),
    }
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (width,),
            f"blk.{layer}.attn_q.weight": (width, width),
            f"blk.{layer}.attn_q.bias": (width,),
            f"blk.{layer}.attn_k.weight": (width, kv),
            f"blk.{layer}.attn_k.bias": (kv,),
            f"blk.{layer}.attn_v.weight": (width, kv),
            f"blk.{layer}.attn_v.bias": (kv,),
            f"blk.{layer}.attn_output.weight": (width, width),
            f"blk.{layer}.ffn_norm.weight": (width,),
            f"blk.{layer}.ffn_gate.weight": (width, HIDDEN),
            f"blk.{layer}.ffn_up.weight": (width, HIDDEN),
            f"blk.{layer}.ffn_down.weight": (HIDDEN, width),
        }
    tensors = {
        name: TensorSpec(shape, type=2, data=_q4_0(random, shape))
        if quantized and name.startswith("blk") and len(shape) == 2
        else TensorSpec(shape, type=0, data=_weights(random, name, shape))
        for name, shape in shapes.items()
    }
    model = GgufBuilder(
        fields={
            "general.architecture": string("qwen2"),
            "general.name": string("tiny random"),
            "general.file_type": number(0),
            "qwen2.block_count": number(LAYERS),
            "qwen2.context_length": number(TRAIN_CONTEXT),
            "qwen2.embedding_length": number(width),
            "qwen2.feed_forward_length": number(HIDDEN),
            "qwen2.attention.head_count": number(HEADS),
            "qwen2.attention.head_count_kv": number(KV_HEADS),
            "qwen2.attention.layer_norm_rms_epsilon": real(1e-6),
            "qwen2.rope.freq_base": real(1e6),
            "tokenizer.ggml.model": string("gpt2"),
            "tokenizer.ggml.pre": string("qwen2"),
            "tokenizer.ggml.tokens": strings([*byte_tokens(), *CONTROL_TOKENS]),
            "tokenizer.ggml.token_type": integers([1] * 256 + [3] * len(CONTROL_TOKENS)),
            "tokenizer.ggml.merges": strings([]),
            "tokenizer.ggml.eos_token_id": number(IM_END),
            "tokenizer.ggml.padding_token_id": number(END),
        },
        tensors=tensors,
    )
    path.write_bytes(model.build())
    return path


def _weights(random: Random, name: str, shape: tuple[int, ...]) -> bytes:
    if name.endswith("norm.weight"):
        return array("f", [1.0] * shape[0]).tobytes()
    count = shape[0] * (shape[1] if len(shape) == 2 else 1)
    spread = 1.0 / shape[0] ** 0.5 if len(shape) == 2 else 0.1
    if name == "output.weight":
        spread *= 4
    return array("f", [random.gauss(0.0, spread) for _ in range(count)]).tobytes()


def _q4_0(random: Random, shape: tuple[int, ...]) -> bytes:
    """Blocks of a scale and 32 numbers of 4 bits (ggml-common.h, block_q4_0), all drawn."""
    scale = struct.pack("<e", 0.2 / shape[0] ** 0.5)
    blocks = shape[0] * shape[1] // 32
    numbers = random.randbytes(16 * blocks)
    return b"".join(scale + numbers[at : at + 16] for at in range(0, len(numbers), 16))


def settings(model: Path, **fields: Any) -> EngineStart:
    """512 cells, steps of up to 32 rows, 4 sequences, one thread pinned to a CPU we may use."""
    given: dict[str, Any] = {
        "cells": 512,
        "ubatch": 32,
        "max_sequences": 4,
        "threads": 1,
        "cpus": (min(os.sched_getaffinity(0)),),
    }
    return EngineStart("llama", str(model), **(given | fields))


@contextmanager
def opened(model: Path, **fields: Any) -> Iterator[Any]:
    """A LlamaBackend, closed at the end. One at a time: llama.cpp has one log for the process.

    The thread that computes is itself pinned by the pool; afterwards it is where it was before.
    """
    from qwend.engine.llama.backend import open_llama

    affinity = os.sched_getaffinity(0)
    backend = open_llama(settings(model, **fields), lambda _fraction: None)
    try:
        yield backend
    finally:
        backend.close()
        os.sched_setaffinity(0, affinity)


def feed(backend: Any, seq_id: int, tokens: tuple[int, ...] | bytes, at: int = 0) -> int:
    """Decode the tokens from position `at` on; return the row of the last batch with logits."""
    most = backend.facts.batch_rows
    output = 0
    for start in range(0, len(tokens), most):
        part = tokens[start : start + most]
        rows = [
            Row(token, at + start + offset, seq_id, start + offset == len(tokens) - 1)
            for offset, token in enumerate(part)
        ]
        backend.decode(Batch(tuple(rows)))
        output = len(rows) - 1
    return output


def logits(backend: Any, output: int) -> Any:
    """A copy of the logits of a row of the last batch."""
    import llama_cpp
    import numpy as np

    pointer = llama_cpp.llama_get_logits_ith(backend._context, output)
    return np.ctypeslib.as_array(pointer, (backend.facts.vocab_size,)).copy()


def filled(backend: Any, seq_id: int) -> int:
    """How many positions of the sequence are in the cells, by llama.cpp's own account."""
    import llama_cpp

    count: int = llama_cpp.llama_memory_seq_pos_max(backend._memory, seq_id) + 1
    return count
