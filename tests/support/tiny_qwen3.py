"""Models of random weights of Qwen3's and Qwen3.5's architectures, written with gguf's own writer.

Two or four layers, 64 wide, the vocabulary of `tiny_model` and two tokens more: <think> and
</think>. A hybrid one has both kinds of layers: recurrent ones, and one of attention.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

import gguf
import numpy as np

from tests.support.tiny_model import CONTROL_TOKENS, END, IM_END, TRAIN_CONTEXT, byte_tokens

THINK, THINK_END = 259, 260
VOCAB_SIZE = 261
WIDTH, HEADS, KV_HEADS, HEAD_WIDTH, HIDDEN = 64, 2, 1, 32, 128
EXPERTS, EXPERTS_USED = 4, 2
# Of the recurrent layers: the width of a state, and how many keys and values have one.
STATE, KEY_HEADS, VALUE_HEADS, KERNEL = 32, 1, 2, 4
KEYS, VALUES = STATE * KEY_HEADS, STATE * VALUE_HEADS
ATTENTION_EVERY = 4

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # enum llama_token_type, llama.h

# Tensors by name; shapes as numpy has them: rows first.
Shapes = dict[str, tuple[int, ...]]

ARCHITECTURES = ("qwen3", "qwen3moe", "qwen35", "qwen35moe", "qwen3next")
HYBRID = ("qwen35", "qwen35moe", "qwen3next")


def write_tiny(
    path: Path,
    architecture: str,
    *,
    seed: int = 1,
    template: str = "",
    tag_type: int = USER_DEFINED,
    fields: Mapping[str, int] | None = None,
    without: Container[str] = (),
) -> Path:
    """tag_type: token type of <think>; Qwen's own is USER_DEFINED, which is rendered as text.

    fields: further numbers of the header, in place of ours where the name is the same.
    without: numbers and tensors to leave out, by their names in the file.
    """
    hybrid = architecture in HYBRID
    layers = ATTENTION_EVERY if hybrid else 2
    numbers = _numbers(architecture, layers) | dict(fields or {})
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(f"tiny {architecture}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for name, value in numbers.items():
        if f"{architecture}.{name}" not in without:
            writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    if hybrid:
        writer.add_rope_dimension_sections([8, 4, 4, 0])
    _add_vocabulary(writer, template, tag_type)
    rng = np.random.default_rng(seed)
    for name, shape in _shapes(architecture, layers).items():
        if name not in without:
            writer.add_tensor(name, _weights(rng, name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _numbers(architecture: str, layers: int) -> dict[str, int]:
    numbers = {
        "block_count": layers,
        "context_length": TRAIN_CONTEXT,
        "embedding_length": WIDTH,
        "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD_WIDTH,
        "attention.value_length": HEAD_WIDTH,
    }
    if "moe" in architecture or architecture == "qwen3next":
        numbers |= {
            "expert_count": EXPERTS,
            "expert_used_count": EXPERTS_USED,
            "expert_feed_forward_length": HIDDEN,
            "expert_shared_feed_forward_length": HIDDEN,
        }
    if architecture in HYBRID:
        numbers |= {
            "full_attention_interval": ATTENTION_EVERY,
            "ssm.conv_kernel": KERNEL,
            "ssm.state_size": STATE,
            "ssm.group_count": KEY_HEADS,
            "ssm.time_step_rank": VALUE_HEADS,
            "ssm.inner_size": VALUES,
        }
    return numbers


def _add_vocabulary(writer: gguf.GGUFWriter, template: str, tag_type: int) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*byte_tokens(), *CONTROL_TOKENS, "<think>", "</think>"])
    writer.add_token_types([NORMAL] * 256 + [CONTROL] * len(CONTROL_TOKENS) + [tag_type] * 2)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(IM_END)
    writer.add_pad_token_id(END)
    if template:
        writer.add_chat_template(template)


def _shapes(architecture: str, layers: int) -> Shapes:
    shapes: Shapes = {
        "token_embd.weight": (VOCAB_SIZE, WIDTH),
        "output.weight": (VOCAB_SIZE, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    hybrid = architecture in HYBRID
    for layer in range(layers):
        block: Shapes = {"attn_norm.weight": (WIDTH,)}
        if hybrid and (layer + 1) % ATTENTION_EVERY:
            block |= _recurrent(architecture)
        else:
            block |= _attention(gated=hybrid)
        block |= {"post_attention_norm.weight" if hybrid else "ffn_norm.weight": (WIDTH,)}
        block |= (
            _experts(shared=hybrid) if "expert_count" in _numbers(architecture, 1) else _dense()
        )
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    return shapes


def _attention(*, gated: bool) -> Shapes:
    heads = HEADS * HEAD_WIDTH
    return {
        "attn_q.weight": (2 * heads if gated else heads, WIDTH),
        "attn_k.weight": (KV_HEADS * HEAD_WIDTH, WIDTH),
        "attn_v.weight": (KV_HEADS * HEAD_WIDTH, WIDTH),
        "attn_q_norm.weight": (HEAD_WIDTH,),
        "attn_k_norm.weight": (HEAD_WIDTH,),
        "attn_output.weight": (WIDTH, heads),
    }


def _recurrent(architecture: str) -> Shapes:
    gates: Shapes = {
        "ssm_beta.weight": (VALUE_HEADS, WIDTH),
        "ssm_alpha.weight": (VALUE_HEADS, WIDTH),
    }
    if architecture == "qwen3next":
        gates = {"ssm_ba.weight": (2 * VALUE_HEADS, WIDTH)}
    return gates | {
        "attn_qkv.weight": (2 * KEYS + VALUES, WIDTH),
        "attn_gate.weight": (VALUES, WIDTH),
        "ssm_conv1d.weight": (2 * KEYS + VALUES, KERNEL),
        "ssm_dt.bias": (VALUE_HEADS,),
        "ssm_a": (VALUE_HEADS,),
        "ssm_norm.weight": (STATE,),
        "ssm_out.weight": (WIDTH, VALUES),
    }


def _dense() -> Shapes:
    return {
        "ffn_gate.weight": (HIDDEN, WIDTH),
        "ffn_up.weight": (HIDDEN, WIDTH),
        "ffn_down.weight": (WIDTH, HIDDEN),
    }


def _experts(*, shared: bool) -> Shapes:
    experts: Shapes = {
        "ffn_gate_inp.weight": (EXPERTS, WIDTH),
        "ffn_gate_exps.weight": (EXPERTS, HIDDEN, WIDTH),
        "ffn_up_exps.weight": (EXPERTS, HIDDEN, WIDTH),
        "ffn_down_exps.weight": (EXPERTS, WIDTH, HIDDEN),
    }
    if shared:
        experts |= {"ffn_gate_inp_shexp.weight": (WIDTH,)}
        experts |= {
            name.replace(".weight", "_shexp.weight"): shape for name, shape in _dense().items()
        }
    return experts


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("norm.weight"):
        return np.ones(shape, np.float32)
    if name.endswith("ssm_a"):  # how fast a state is forgotten: -exp(A_log)
        return -rng.uniform(0.1, 1.0, shape).astype(np.float32)
    spread = 1.0 / shape[-1] ** 0.5 if len(shape) > 1 else 0.1
    # The logits are to differ by whole units, not by roundings.
    return rng.normal(0.0, 4 * spread if name == "output.weight" else spread, shape).astype(
        np.float32
    )
