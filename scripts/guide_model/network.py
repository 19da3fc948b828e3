"""The network: Qwen2 as llama.cpp runs it, small enough to train on two CPU cores.

Rule 1: names and order of operations follow llama.cpp's src/models/qwen2.cpp (NeoX rotary
positions, biases on q, k and v, SwiGLU, embeddings tied to the output).
Rule 2: this file does not know tokens, corpus or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; rows are multiples of 32, the block size of Q8_0."""

    vocabulary: int = 3072
    width: int = 192
    layers: int = 4
    heads: int = 6
    kv_heads: int = 2
    head_width: int = 32
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    norm_eps: float = 1e-6


class Block(nn.Module):
    """Attention and feed-forward, each on a normalised copy of the residual stream."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        query = shape.heads * shape.head_width
        key_value = shape.kv_heads * shape.head_width
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.attn_q = nn.Linear(shape.width, query)
        self.attn_k = nn.Linear(shape.width, key_value)
        self.attn_v = nn.Linear(shape.width, key_value)
        self.attn_output = nn.Linear(query, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self.dropout(self._attention(self.attn_norm(x), cosine, sine))
        h = self.ffn_norm(x)
        h = self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + self.dropout(h)

    def _attention(self, h: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        batch, length, _ = h.shape
        width = self.shape.head_width
        q = self.attn_q(h).view(batch, length, self.shape.heads, width).transpose(1, 2)
        k = self.attn_k(h).view(batch, length, self.shape.kv_heads, width).transpose(1, 2)
        v = self.attn_v(h).view(batch, length, self.shape.kv_heads, width).transpose(1, 2)
        q, k = _rotate(q, cosine, sine), _rotate(k, cosine, sine)
        repeats = self.shape.heads // self.shape.kv_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn_output(out.transpose(1, 2).reshape(batch, length, -1))


class Network(nn.Module):
    """Token ids to hidden states; `logits` turns the wanted ones into scores."""

    def __init__(self, shape: Shape, dropout: float = 0.1) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.norm_eps)
        self.dropout = nn.Dropout(dropout)
        half = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
        angles = torch.outer(torch.arange(shape.context).float(), shape.rope_base**-half)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self._start_weights()

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (batch, length) -> hidden states (batch, length, width)."""
        x = self.dropout(self.token_embd(ids))
        cosine, sine = self.cosine[: ids.shape[1]], self.sine[: ids.shape[1]]
        for block in self.blk:
            x = block(x, cosine, sine)
        return self.output_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.token_embd.weight)

    def _start_weights(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                continue
            narrow = name.endswith(("attn_output.weight", "ffn_down.weight"))
            spread = 0.02 if "token_embd" in name else parameter.shape[1] ** -0.5
            nn.init.normal_(
                parameter, std=spread / ((2 * self.shape.layers) ** 0.5 if narrow else 1)
            )


def _rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions, NeoX order: the first half of a head is paired with the second."""
    first, second = x.chunk(2, -1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)
