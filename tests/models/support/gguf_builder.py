"""Builds small GGUF files, right ones and wrong ones.

`tiny_model()` is the smallest file that passes every rule; a test changes one thing in it.
Nothing is checked here: the builder writes what it is told.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import prod

from qwend.models.gguf_header import SCALARS, ValueType

Scalar = int | float | bool | str | bytes

TOKENS = ["!", "a", "b", "ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "[PAD7]"]
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@dataclass(slots=True)
class Value:
    type: ValueType
    value: Scalar | list[Scalar]
    element: ValueType | None = None  # of an array

    def encoded(self) -> bytes:
        if self.type != ValueType.ARRAY:
            assert not isinstance(self.value, list)
            return u32(self.type) + scalar(self.type, self.value)
        assert isinstance(self.value, list)
        assert self.element is not None
        elements = b"".join(scalar(self.element, item) for item in self.value)
        return u32(self.type) + u32(self.element) + u64(len(self.value)) + elements


@dataclass(slots=True)
class TensorSpec:
    dims: tuple[int, ...]
    type: int = 0
    data: bytes = b""
    offset: int | None = None  # None: where the one before it ended


@dataclass(slots=True)
class GgufBuilder:
    fields: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, TensorSpec] = field(default_factory=dict)
    encoded_fields: list[bytes] = field(default_factory=list)  # key and value, after the others
    version: int = 3
    field_count: int | None = None
    tensor_count: int | None = None
    alignment: int = 32

    def header(self) -> bytes:
        parts = [b"GGUF", u32(self.version)]
        parts.append(u64(len(self.tensors) if self.tensor_count is None else self.tensor_count))
        field_count = len(self.fields) + len(self.encoded_fields)
        parts.append(u64(field_count if self.field_count is None else self.field_count))
        for key, value in self.fields.items():
            parts += [text(key), value.encoded()]
        parts += self.encoded_fields
        end = 0
        for name, tensor in self.tensors.items():
            offset = end if tensor.offset is None else tensor.offset
            parts += [text(name), u32(len(tensor.dims)), *(u64(dim) for dim in tensor.dims)]
            parts += [u32(tensor.type), u64(offset)]
            end += len(self.padded(tensor.data))
        return self.padded(b"".join(parts))

    def data(self) -> bytes:
        return b"".join(self.padded(tensor.data) for tensor in self.tensors.values())

    def build(self) -> bytes:
        return self.header() + self.data()

    def padded(self, data: bytes) -> bytes:
        return data + bytes(-len(data) % self.alignment)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return u64(len(raw)) + raw


def scalar(kind: ValueType, value: Scalar) -> bytes:
    if isinstance(value, str | bytes):
        return text(value)
    return SCALARS[kind].pack(value)


def string(value: str) -> Value:
    return Value(ValueType.STRING, value)


def number(value: int) -> Value:
    return Value(ValueType.UINT32, value)


def real(value: float) -> Value:
    return Value(ValueType.FLOAT32, value)


def strings(values: list[str]) -> Value:
    return Value(ValueType.ARRAY, list(values), ValueType.STRING)


def integers(values: list[int]) -> Value:
    return Value(ValueType.ARRAY, list(values), ValueType.INT32)


def tiny_model(architecture: str = "qwen2") -> GgufBuilder:
    """One layer, 32 wide, 8 tokens; 2 tensors in 2 types. Loads nowhere, passes every rule."""
    return GgufBuilder(
        fields={
            "general.architecture": string(architecture),
            "general.name": string("Tiny"),
            "general.file_type": number(2),
            f"{architecture}.block_count": number(1),
            f"{architecture}.context_length": number(64),
            f"{architecture}.embedding_length": number(32),
            f"{architecture}.feed_forward_length": number(64),
            f"{architecture}.attention.head_count": number(4),
            f"{architecture}.attention.head_count_kv": number(2),
            f"{architecture}.attention.layer_norm_rms_epsilon": real(1e-6),
            f"{architecture}.rope.freq_base": real(1e6),
            "tokenizer.ggml.model": string("gpt2"),
            "tokenizer.ggml.pre": string("qwen2"),
            "tokenizer.ggml.tokens": strings(TOKENS),
            "tokenizer.ggml.token_type": integers([1, 1, 1, 1, 3, 3, 3, 5]),
            "tokenizer.ggml.merges": strings(["a b"]),
            "tokenizer.ggml.eos_token_id": number(6),
            "tokenizer.ggml.padding_token_id": number(4),
            "tokenizer.chat_template": string(CHATML),
        },
        tensors={
            "token_embd.weight": TensorSpec((32, 8), type=2, data=bytes(8 * 18)),
            "output_norm.weight": TensorSpec((32,), type=0, data=bytes(4 * 32)),
        },
    )


def one_layer_model(vocab_size: int) -> GgufBuilder:
    """All that llama.cpp wants of a qwen2 but the tokenizer; every weight is 0."""
    model = tiny_model()
    model.fields = {k: v for k, v in model.fields.items() if not k.startswith("tokenizer.")}
    shapes = {
        "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_q.bias": (32,),
        "blk.0.attn_k.weight": (32, 16),
        "blk.0.attn_k.bias": (16,),
        "blk.0.attn_v.weight": (32, 16),
        "blk.0.attn_v.bias": (16,),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_norm.weight": (32,),
        "blk.0.ffn_gate.weight": (32, 64),
        "blk.0.ffn_up.weight": (32, 64),
        "blk.0.ffn_down.weight": (64, 32),
    }
    model.tensors = {
        "token_embd.weight": TensorSpec((32, vocab_size), type=2, data=bytes(18 * vocab_size)),
        **{name: TensorSpec(dims, data=bytes(4 * prod(dims))) for name, dims in shapes.items()},
    }
    return model
