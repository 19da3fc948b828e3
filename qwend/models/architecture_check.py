"""What single architectures of Qwen need beside the shape that all have: rope, experts, recurrence.

Each rule stands for ways in which llama.cpp ends the process, or never comes back, found by
changing one number or leaving out one tensor (tests/models/test_architecture_check.py tells which).
What it refuses by itself, with words, is not repeated here.
"""

from __future__ import annotations

from collections.abc import Container

from qwend.models.gguf_file import GgufFile
from qwend.models.metadata import Metadata

# GGML_ASSERT(n_embd_head == n_rot) in llama.cpp's models/qwen2.cpp, and the same in the others.
WHOLE_ROPE = frozenset({"qwen2", "qwen2moe", "qwen3", "qwen3moe"})
# Most layers keep one state per sequence in place of keys and values (gated delta net).
HYBRID = frozenset({"qwen35", "qwen35moe", "qwen3next"})
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS (llama-hparams.h)
MAX_STATE = 1 << 16  # the widest of a Qwen: 128
MAX_KERNEL = 64  # the longest of a Qwen: 4
MAX_HEADS = 1 << 10  # of recurrent layers; the most of a Qwen: 64


def check_architecture(
    file: GgufFile,
    metadata: Metadata,
    tensors: Container[str],
    architecture: str,
    *,
    layers: int,
    head_width: int,
) -> None:
    """head_width: of the attention's keys. Raises: ModelError naming the field or the tensor."""
    _check_rope(metadata, architecture, head_width)
    _check_experts(metadata, architecture)
    # Layers that only draft tokens stand behind the others and count among them.
    metadata.integer(f"{architecture}.nextn_predict_layers", 0, layers - 1)
    if architecture in HYBRID:
        _check_recurrence(metadata, architecture, layers)
        _check_recurrent_tensors(file, tensors, layers)


def _check_rope(metadata: Metadata, architecture: str, head_width: int) -> None:
    key = f"{architecture}.rope.dimension_count"
    dimensions = metadata.integer(key, 1, head_width)
    if dimensions not in (None, head_width) and architecture in WHOLE_ROPE:
        raise metadata.bad(key, f"{dimensions} is not the width of a head, {head_width}")


def _check_experts(metadata: Metadata, architecture: str) -> None:
    count_key, used_key = (f"{architecture}.expert_{name}" for name in ("count", "used_count"))
    count = metadata.integer(count_key, 0, MAX_EXPERTS) or 0
    used = metadata.integer(used_key, 0, MAX_EXPERTS) or 0
    if (count > 0) != (used > 0) or used > count:
        what = f"{used} of {count} experts are used"
        given = next((key for key in (used_key, count_key) if key in metadata), used_key)
        raise metadata.bad(given, what)
    metadata.integer(f"{architecture}.expert_group_count", 0, 0)  # no Qwen has groups of experts


def _check_recurrence(metadata: Metadata, architecture: str, layers: int) -> None:
    def required(name: str, most: int) -> int:
        return metadata.required_integer(f"{architecture}.ssm.{name}", 1, most)

    required("conv_kernel", MAX_KERNEL)
    state = required("state_size", MAX_STATE)
    key_heads, value_heads = (
        required("group_count", MAX_HEADS),
        required("time_step_rank", MAX_HEADS),
    )
    inner = required("inner_size", MAX_STATE * MAX_HEADS)
    if value_heads % key_heads:
        what = f"{value_heads} is no multiple of the {key_heads} heads of keys"
        raise metadata.bad(f"{architecture}.ssm.time_step_rank", what)
    if inner != state * value_heads:
        what = f"{inner} is not {value_heads} states of {state}"
        raise metadata.bad(f"{architecture}.ssm.inner_size", what)
    # Every so manieth layer has attention; llama.cpp divides by it.
    metadata.integer(f"{architecture}.full_attention_interval", 1, layers)


def _check_recurrent_tensors(file: GgufFile, tensors: Container[str], layers: int) -> None:
    """llama.cpp takes these for optional, and goes on without them into a null pointer."""
    for layer in range(layers):
        block = f"blk.{layer}"
        if f"{block}.ssm_out.weight" not in tensors or f"{block}.ssm_in.weight" in tensors:
            continue  # a layer with attention, or both in one tensor as older files have them
        for name in ("attn_qkv", "attn_gate"):
            if f"{block}.{name}.weight" not in tensors:
                raise file.bad(f"tensor '{block}.{name}.weight'", 8, "is missing")
