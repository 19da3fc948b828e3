from __future__ import annotations

import io
import os
from math import prod
from pathlib import Path

import pytest

from qwend.errors import ModelError
from qwend.models import GgufFacts, check_gguf
from qwend.models.ggml_types import TENSOR_TYPES
from qwend.models.gguf_header import ValueType
from tests.models.support.gguf_builder import (
    CHATML,
    TOKENS,
    GgufBuilder,
    TensorSpec,
    Value,
    integers,
    number,
    real,
    string,
    strings,
    tiny_model,
)


def check(model: GgufBuilder, *, allow_any_architecture: bool = False) -> GgufFacts:
    data = model.build()
    return check_gguf(
        io.BytesIO(data), len(data), path="m.gguf", allow_any_architecture=allow_any_architecture
    )


def refusal(model: GgufBuilder, *, allow_any_architecture: bool = False) -> str:
    with pytest.raises(ModelError) as caught:
        check(model, allow_any_architecture=allow_any_architecture)
    assert str(caught.value).startswith("m.gguf: ")
    assert caught.value.code == "model_error"
    return str(caught.value)


def with_fields(**changes: Value | None) -> GgufBuilder:
    """The tiny model with fields changed (__ stands for a dot) or, with None, taken out."""
    model = tiny_model()
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del model.fields[key]
        else:
            model.fields[key] = value
    return model


def test_a_sound_model_is_described() -> None:
    assert check(tiny_model()) == GgufFacts(
        architecture="qwen2",
        name="Tiny",
        quantization="Q4_0",
        parameter_count=32 * 8 + 32,
        context_length=64,
        layers=1,
        embedding_length=32,
        head_count=4,
        head_count_kv=2,
        vocab_size=8,
        tokenizer="gpt2",
        chat_template=CHATML,
        is_chatml=True,
        split_count=1,
        tensor_bytes=8 * 18 + 32 * 4,
        head_width=8,
        matrix_bytes={"Q4_0": 8 * 18},
    )


def test_a_descriptor_is_checked_without_moving_its_position(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_model().build())
    with path.open("rb") as file:
        assert check_gguf(file.fileno(), path.stat().st_size).layers == 1
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3moe", "qwen2moe", "qwen3vl"])
def test_every_qwen_architecture_is_allowed(architecture: str) -> None:
    assert check(tiny_model(architecture)).architecture == architecture


def test_another_architecture_is_refused_unless_allowed() -> None:
    message = refusal(tiny_model("llama"))
    assert "'llama'" in message
    assert "allow_any_architecture" in message
    assert check(tiny_model("llama"), allow_any_architecture=True).architecture == "llama"


def test_another_tokenizer_is_refused_unless_allowed() -> None:
    model = with_fields(tokenizer__ggml__model=string("llama"))
    assert "'llama' is not Qwen's" in refusal(model)
    assert check(model, allow_any_architecture=True).tokenizer == "llama"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("qwen2.block_count", number(0), "0 is outside of 1 to 512"),
        ("qwen2.block_count", number(513), "513 is outside of 1 to 512"),
        ("qwen2.block_count", string("one"), "must be a whole number"),
        ("qwen2.block_count", Value(ValueType.INT32, -1), "-1 is outside"),
        ("qwen2.block_count", integers([1]), "must be one whole number"),
        ("qwen2.context_length", number(0), "0 is outside"),
        ("qwen2.embedding_length", number(0), "0 is outside"),
        ("qwen2.embedding_length", number(30), "30 is no multiple of the 4 heads"),
        ("qwen2.attention.head_count", integers([4, 4]), "2 numbers for 1 layers"),
        ("qwen2.attention.head_count_kv", number(3), "3 does not divide the 4 heads"),
        ("qwen2.attention.head_count_kv", number(0), "0 does not divide"),
        ("qwen2.attention.layer_norm_rms_epsilon", real(0.0), "must be finite and positive"),
        ("qwen2.attention.layer_norm_rms_epsilon", real(float("nan")), "must be finite"),
        ("qwen2.rope.freq_base", real(-1.0), "must be finite and positive"),
        ("qwen2.rope.freq_base", number(1), "must be one floating-point number"),
        ("general.architecture", number(1), "must be a text"),
        ("general.type", string("adapter"), "'adapter', not a model"),
        ("split.count", number(3), "qwenctl models import"),
        ("tokenizer.ggml.tokens", integers([1] * 8), "must be an array of STRING"),
        ("tokenizer.ggml.tokens", strings([]), "0 tokens"),
        ("tokenizer.ggml.token_type", integers([1]), "1 entries for 8 tokens"),
        ("tokenizer.ggml.token_type", strings(TOKENS), "must be an array of INT32"),
        ("tokenizer.ggml.scores", strings(TOKENS), "must be an array of FLOAT32 or INT32"),
        ("tokenizer.ggml.merges", integers([1]), "must be an array of STRING"),
        ("tokenizer.ggml.eos_token_id", number(8), "8 is outside of 0 to 7"),
        ("tokenizer.ggml.eos_token_id", string("6"), "must be a whole number"),
        ("tokenizer.ggml.fim_pre_token_id", number(99), "99 is outside of 0 to 7"),
    ],
)
def test_a_field_that_cannot_be_is_named(key: str, value: Value, said: str) -> None:
    message = refusal(with_fields(**{key.replace(".", "__"): value}))
    assert repr(key) in message
    assert said in message
    assert " at byte " in message


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "qwen2.block_count",
        "qwen2.context_length",
        "qwen2.embedding_length",
        "qwen2.attention.head_count",
        "qwen2.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.model",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.eos_token_id",
    ],
)
def test_a_missing_field_is_named(key: str) -> None:
    assert f"has no {key!r}" in refusal(with_fields(**{key.replace(".", "__"): None}))


def test_two_tokens_of_one_text_are_refused() -> None:
    message = refusal(with_fields(tokenizer__ggml__tokens=strings([*TOKENS[:7], "ab"])))
    assert "token 7 has the text of another: 'ab'" in message
    assert "abort" in message


def test_an_empty_token_has_the_name_that_llama_cpp_gives_it() -> None:
    assert check(with_fields(tokenizer__ggml__tokens=strings(["", *TOKENS[1:]]))).vocab_size == 8
    both = strings(["", "[EMPTY_0]", *TOKENS[2:]])
    assert "token 1 has the text" in refusal(with_fields(tokenizer__ggml__tokens=both))


def test_a_model_without_template_is_chatml_if_its_tokens_are() -> None:
    assert check(with_fields(tokenizer__chat_template=None)).is_chatml
    plain = strings([f"t{n}" for n in range(8)])
    assert not check(with_fields(tokenizer__ggml__tokens=plain)).is_chatml
    other = string("{{ '[INST]' }}")
    assert not check(with_fields(tokenizer__chat_template=other)).is_chatml


def test_the_quantization_is_that_of_most_bytes_if_the_file_does_not_say() -> None:
    model = with_fields(general__file_type=None)
    assert check(model).quantization == "Q4_0"
    model.tensors["output.weight"] = TensorSpec((32, 8), type=8, data=bytes(8 * 34))
    assert check(model).quantization == "Q8_0"


def test_heads_may_differ_by_layer() -> None:
    model = with_fields(
        qwen2__block_count=number(2),
        qwen2__attention__head_count=integers([4, 4]),
        qwen2__attention__head_count_kv=integers([0, 2]),
    )
    assert (check(model).head_count, check(model).head_count_kv) == (4, 2)


@pytest.mark.row("E3")
@pytest.mark.parametrize("kind", [9, 15, 24, 25, 26, 27, 28])
@pytest.mark.parametrize("name", ["token_embd.weight", "blk.0.ffn_up.weight"])
def test_a_matrix_of_a_type_that_nothing_is_computed_with_is_refused(name: str, kind: int) -> None:
    """Found by loading mutated files: llama.cpp has no product for these, and calls none."""
    model = tiny_model()
    type_ = TENSOR_TYPES[kind]
    rows, wide = 8, max(32, type_.block_elements)
    data = bytes(rows * wide // type_.block_elements * type_.block_bytes)
    model.tensors[name] = TensorSpec((wide, rows), type=kind, data=data)
    assert f"tensor '{name}' at byte" in refusal(model)
    assert f"is of type {type_.name}" in refusal(model)
    if wide == 32:
        check(model, allow_any_architecture=True)


@pytest.mark.row("E3")
@pytest.mark.parametrize(
    ("name", "dims"),
    [
        ("output_norm.weight", (32,)),
        ("blk.0.attn_q.bias", (32, 1)),
        ("blk.0.ssm_a", (32,)),
        ("blk.0.ssm_conv1d.weight", (32, 8)),
    ],
)
def test_norms_and_biases_that_are_not_f32_are_refused(name: str, dims: tuple[int, ...]) -> None:
    for kind in (1, 2, 8, 26, 30):
        type_ = TENSOR_TYPES[kind]
        model, size = tiny_model(), prod(dims) // type_.block_elements * type_.block_bytes
        model.tensors[name] = TensorSpec(dims, type=kind, data=bytes(size))
        assert f"tensor '{name}' at byte" in refusal(model)
        assert f"is of type {type_.name}, and must be of F32" in refusal(model)
    model.tensors[name] = TensorSpec(dims, data=bytes(4 * prod(dims)))
    check(model)


@pytest.mark.parametrize("dims", [(32,), (32, 4)])
def test_the_gate_of_a_shared_expert_is_a_matrix_though_it_may_have_one_row(
    dims: tuple[int, ...],
) -> None:
    model = tiny_model()
    data = bytes(2 * prod(dims))
    model.tensors["blk.0.ffn_gate_inp_shexp.weight"] = TensorSpec(dims, type=30, data=data)
    check(model)


def test_a_vocabulary_alone_is_not_a_model() -> None:
    model = tiny_model()
    model.tensors.clear()
    assert "a vocabulary, not a model" in refusal(model)


def test_the_embedding_must_have_a_row_for_every_token() -> None:
    model = tiny_model()
    model.tensors["token_embd.weight"] = TensorSpec((32, 7), type=2, data=bytes(7 * 18))
    assert "(32, 7) and not (32, 8)" in refusal(model)
    del model.tensors["token_embd.weight"]
    assert "'token_embd.weight' at byte" in refusal(model)
