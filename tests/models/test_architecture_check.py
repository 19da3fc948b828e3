"""Qwen3 and the hybrids pass the check, and what llama.cpp would die of is named before it sees it.

Nearly every file refused here ended llama.cpp (llama-cpp-python 0.3.36), or kept it for ever: by an
assert, a division by zero, a null pointer, a rotation by no dimension at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qwend.errors import ModelError
from qwend.models import GgufFacts, check_gguf
from tests.support.tiny_qwen3 import ARCHITECTURES, HYBRID, VOCAB_SIZE, write_tiny


def check(path: Path, *, allow_any_architecture: bool = False) -> GgufFacts:
    with path.open("rb") as file:
        return check_gguf(
            file,
            path.stat().st_size,
            path="m.gguf",
            allow_any_architecture=allow_any_architecture,
        )


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as refused:
        check(path)
    return str(refused.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sound_model_of_each_architecture_passes(tmp_path: Path, architecture: str) -> None:
    facts = check(write_tiny(tmp_path / "tiny.gguf", architecture))
    assert (facts.architecture, facts.vocab_size) == (architecture, VOCAB_SIZE)
    assert facts.layers == (4 if architecture in HYBRID else 2)
    assert facts.is_chatml


@pytest.mark.parametrize(
    ("architecture", "name", "value", "said"),
    [
        ("qwen3", "rope.dimension_count", 0, "0 is outside of 1 to 32"),
        ("qwen3", "rope.dimension_count", 16, "16 is not the width of a head, 32"),
        ("qwen3", "rope.dimension_count", 64, "64 is outside of 1 to 32"),
        ("qwen35", "rope.dimension_count", 0, "0 is outside of 1 to 32"),
        ("qwen35", "rope.dimension_count", 64, "64 is outside of 1 to 32"),
        ("qwen3moe", "expert_count", 1 << 20, "1048576 is outside of 0 to 1024"),
        ("qwen3moe", "expert_used_count", 0, "0 of 4 experts"),
        ("qwen35moe", "expert_used_count", 5, "5 of 4 experts"),
        ("qwen3moe", "expert_group_count", 2, "2 is outside of 0 to 0"),
        ("qwen3moe", "nextn_predict_layers", 4, "4 is outside of 0 to 1"),
        ("qwen35", "nextn_predict_layers", 9, "9 is outside of 0 to 3"),
        ("qwen35", "full_attention_interval", 0, "0 is outside of 1 to 4"),
        ("qwen35", "ssm.conv_kernel", 0, "0 is outside of 1 to 64"),
        ("qwen35", "ssm.state_size", 0, "0 is outside"),
        ("qwen35", "ssm.group_count", 0, "0 is outside"),
        ("qwen35", "ssm.time_step_rank", 0, "0 is outside"),
        ("qwen35", "ssm.inner_size", 0, "0 is outside"),
        ("qwen35", "ssm.inner_size", 128, "128 is not 2 states of 32"),
        ("qwen3next", "ssm.inner_size", 65, "65 is not 2 states of 32"),
    ],
)
def test_a_number_that_cannot_be_is_named(
    tmp_path: Path, architecture: str, name: str, value: int, said: str
) -> None:
    message = refusal(write_tiny(tmp_path / "tiny.gguf", architecture, fields={name: value}))
    assert f"'{architecture}.{name}' at byte" in message
    assert said in message


@pytest.mark.parametrize(
    ("architecture", "name", "value", "said"),
    [
        ("qwen3moe", "expert_count", 0, "2 of 0 experts are used"),
        ("qwen3moe", "expert_count", 1, "2 of 1 experts are used"),
        ("qwen35", "ssm.group_count", 3, "2 is no multiple of the 3 heads of keys"),
    ],
)
def test_two_numbers_that_do_not_fit_each_other_are_refused(
    tmp_path: Path, architecture: str, name: str, value: int, said: str
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", architecture, fields={name: value})
    assert said in refusal(path)


@pytest.mark.parametrize("architecture", HYBRID)
@pytest.mark.parametrize(
    "name",
    [
        "ssm.conv_kernel",
        "ssm.state_size",
        "ssm.group_count",
        "ssm.time_step_rank",
        "ssm.inner_size",
    ],
)
def test_a_hybrid_without_a_number_of_its_recurrence_is_refused(
    tmp_path: Path, architecture: str, name: str
) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", architecture, without=(f"{architecture}.{name}",))
    assert f"has no '{architecture}.{name}'" in refusal(path)


@pytest.mark.parametrize("name", ["expert_count", "expert_used_count"])
def test_experts_are_counted_and_used_or_neither(tmp_path: Path, name: str) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", "qwen3moe", without=(f"qwen3moe.{name}",))
    assert "experts are used" in refusal(path)


@pytest.mark.parametrize("architecture", HYBRID)
@pytest.mark.parametrize("name", ["attn_qkv", "attn_gate"])
def test_a_recurrent_layer_without_its_projection_is_refused(
    tmp_path: Path, architecture: str, name: str
) -> None:
    tensor = f"blk.2.{name}.weight"
    path = write_tiny(tmp_path / "tiny.gguf", architecture, without=(tensor,))
    assert f"tensor '{tensor}'" in refusal(path)


def test_what_is_allowed_as_any_architecture_is_not_measured_by_qwens(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.gguf", "qwen3", fields={"rope.dimension_count": 16})
    assert check(path, allow_any_architecture=True).architecture == "qwen3"
