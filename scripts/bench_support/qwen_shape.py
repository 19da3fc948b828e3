"""The shapes of the Qwen2.5 models: sizes of everything, in the names of their config.json.

Source: config.json of Qwen/Qwen2.5-{0.5B,1.5B,3B,7B}-Instruct.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CONTEXT_LENGTH = 32_768
ROPE_FREQ_BASE = 1_000_000.0
RMS_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class QwenShape:
    name: str
    layers: int
    hidden: int
    heads: int
    heads_kv: int
    ffn: int
    vocabulary: int
    tied: bool

    @property
    def kv_width(self) -> int:
        return self.hidden // self.heads * self.heads_kv

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes, rows first, in the order of llama.cpp's converter."""
        yield "token_embd.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            for name, shape in self._layer():
                yield f"blk.{layer}.{name}", shape
        yield "output_norm.weight", (self.hidden,)
        if not self.tied:
            yield "output.weight", (self.vocabulary, self.hidden)

    def _layer(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "attn_norm.weight", (self.hidden,)
        for name, width in (("q", self.hidden), ("k", self.kv_width), ("v", self.kv_width)):
            yield f"attn_{name}.weight", (width, self.hidden)
            yield f"attn_{name}.bias", (width,)
        yield "attn_output.weight", (self.hidden, self.hidden)
        yield "ffn_norm.weight", (self.hidden,)
        yield "ffn_gate.weight", (self.ffn, self.hidden)
        yield "ffn_up.weight", (self.ffn, self.hidden)
        yield "ffn_down.weight", (self.hidden, self.ffn)


SHAPES = {
    "0.5b": QwenShape("Qwen2.5-0.5B", 24, 896, 14, 2, 4864, 151_936, tied=True),
    "1.5b": QwenShape("Qwen2.5-1.5B", 28, 1536, 12, 2, 8960, 151_936, tied=True),
    "3b": QwenShape("Qwen2.5-3B", 36, 2048, 16, 2, 11_008, 151_936, tied=True),
    "7b": QwenShape("Qwen2.5-7B", 28, 3584, 28, 4, 18_944, 152_064, tied=False),
}
