"""Sizes computed from a shape, beside files whose size is known and a model that was loaded."""

from __future__ import annotations

import pytest

from qwend.models.catalogue import DEFAULT_QUANTIZATION, catalogue
from qwend.models.ggml_types import repacked_types
from qwend.models.shape import Shape

KNOWN = [
    (model.name, quantization)
    for model in catalogue().models.values()
    for quantization, file in model.files.items()
    if file.size_bytes is not None
]
MIB = 2**20


@pytest.mark.parametrize(("name", "quantization"), KNOWN)
def test_the_size_of_a_file_follows_from_its_shape(name: str, quantization: str) -> None:
    model = catalogue().find(name)

    computed, known = model.shape.file_bytes(quantization), model.size_bytes(quantization)
    # Q4_K_M gives some tensors more bits, and rows of 896 do not fit its blocks.
    assert computed == pytest.approx(known, rel=0.08 if quantization == "Q4_K_M" else 0.02)


def test_the_default_model_needs_what_a_load_of_its_shape_has_shown() -> None:
    # The bench model: the same shape, the output matrix tied: 660 MiB with the copy and the
    # repacked weights, 460 without, 96 of keys and values not touched yet (README, Memory).
    shape = catalogue().find("qwen2.5-0.5b-instruct").shape
    tied = Shape(**{field: getattr(shape, field) for field in shape.__slots__} | {"output": False})
    from qwend.models.shape import memory_need

    need = memory_need(
        tied,
        DEFAULT_QUANTIZATION,
        file_bytes=352_152_096,
        context=8192,
        repacked=repacked_types(frozenset({"avx2"})),
    )

    assert need.cells_bytes == 96 * MIB
    assert need.quickest_bytes - need.cells_bytes == pytest.approx(660 * MIB, rel=0.05)
    assert need.least_bytes - need.cells_bytes == pytest.approx(460 * MIB, rel=0.05)
    assert need.repacked_bytes == pytest.approx(192 * MIB, rel=0.02)


def test_a_hybrid_keeps_keys_of_a_quarter_of_its_layers_and_a_state_of_the_others() -> None:
    shape = catalogue().find("qwen3.5-2b").shape

    assert shape.kv_bytes_per_token == 12_288
    assert shape.recurrent_layers == 18
    assert 18 * MIB <= shape.state_bytes_per_sequence < 21 * MIB


def test_a_model_of_attention_only_has_no_state() -> None:
    assert catalogue().find("qwen3-4b").shape.state_bytes_per_sequence == 0


def test_an_output_matrix_of_its_own_is_read_each_step_and_the_embedding_is_not() -> None:
    shape = catalogue().find("qwen2.5-7b-instruct").shape

    assert shape.file_bytes("Q4_0") - shape.step_bytes("Q4_0") > 250 * MIB


def test_what_a_cpu_does_not_repack_takes_no_memory_twice() -> None:
    model = catalogue().find("qwen2.5-0.5b-instruct")
    raspberry_pi_4 = repacked_types(frozenset())

    assert model.need("Q4_0", context=8192, repacked=raspberry_pi_4).repacked_bytes == 0
    assert model.need("Q8_0", context=8192, repacked=repacked_types(frozenset({"avx2"})))
