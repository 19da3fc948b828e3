from __future__ import annotations

import math

import pytest

from scripts.bench_support.qwen_shape import SHAPES


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # as the safetensors of Qwen/Qwen2.5-*-Instruct count them
        ("0.5b", 494_032_768),
        ("1.5b", 1_543_714_304),
        ("3b", 3_085_938_688),
        ("7b", 7_615_616_512),
    ],
)
def test_a_shape_has_the_parameters_of_the_real_model(name: str, parameters: int) -> None:
    assert sum(math.prod(dims) for _, dims in SHAPES[name].tensors()) == parameters


def test_only_an_untied_model_has_an_output_matrix() -> None:
    for shape in SHAPES.values():
        names = [name for name, _ in shape.tensors()]
        assert len(names) == len(set(names))
        assert ("output.weight" in names) is not shape.tied
