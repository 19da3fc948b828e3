"""What a model of a known shape takes: its weights, its keys and values, what a step reads.

Rule 1: a pure function of the shape and the quantization; bytes everywhere. Rule 2: this file does
not know which models there are; that is `catalogue`.

Checked against files whose size is known, and against a real load (tests/models/test_shape.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.models.ggml_types import TENSOR_TYPES

# Bits of one weight of a layer's matrices, and of the embedding, by the name of the file type. What
# llama.cpp's quantizer gives single tensors (llama-quant.cpp, llama_tensor_get_type): Q4_K_M has
# half of attn_v and ffn_down in Q6_K; an output matrix, also one that is the embedding, gets Q6_K
# in files of 4 bits.
_LAYER_BITS = {"Q4_0": 4.5, "Q4_K_M": 4.9, "Q8_0": 8.5, "F16": 16.0}
_OUTPUT_BITS = {"Q4_0": 6.5625, "Q4_K_M": 6.5625, "Q8_0": 8.5, "F16": 16.0}
# K quantizations come in blocks of 256; rows that are no multiple get Q8_0 or the like instead.
_BLOCK = 256
_FALLBACK_BITS = 8.5
# Vocabulary, merges and the rest of a header: 151,936 tokens and their merges are 5.9 MB.
_HEADER_BYTES_PER_TOKEN = 40
F16_BYTES = 2
F32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of everything, as a config.json has them.

    attention_layers: those that keep keys and values; the others keep a state of one size, of
    state_heads_value x state_width x state_width numbers and what the convolution looks back.
    output: the file has an output matrix of its own.
    """

    layers: int
    hidden: int
    heads: int
    heads_kv: int
    head_width: int
    feed_forward: int
    vocabulary: int
    output: bool
    attention_layers: int = 0
    state_heads_key: int = 0
    state_heads_value: int = 0
    state_width: int = 0
    state_kernel: int = 0

    @property
    def recurrent_layers(self) -> int:
        return self.layers - self.attention_layers if self.attention_layers else 0

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in f16."""
        attention = self.layers - self.recurrent_layers
        return 2 * attention * self.heads_kv * self.head_width * F16_BYTES

    @property
    def state_bytes_per_sequence(self) -> int:
        """The states of one sequence in f32; 0 of a model that has attention only."""
        memory = self.state_heads_value * self.state_width**2
        channels = (self.state_heads_value + 2 * self.state_heads_key) * self.state_width
        look_back = max(0, self.state_kernel - 1) * channels
        return self.recurrent_layers * (memory + look_back) * F32_BYTES

    @property
    def layer_weights(self) -> int:
        """Numbers in the matrices of all layers."""
        wide, narrow = self.heads * self.head_width, self.heads_kv * self.head_width
        gate = wide if self.recurrent_layers else 0  # Qwen3.5's attention has a gate as wide
        attention = self.hidden * (2 * wide + 2 * narrow + gate)
        inner = self.state_heads_value * self.state_width
        keys = 2 * self.state_heads_key * self.state_width
        recurrent = self.hidden * (keys + 3 * inner)
        forward = 3 * self.hidden * self.feed_forward
        return (
            (self.layers - self.recurrent_layers) * attention
            + self.recurrent_layers * recurrent
            + self.layers * forward
        )

    @property
    def embedding_weights(self) -> int:
        return self.vocabulary * self.hidden

    def layer_bytes(self, quantization: str) -> int:
        return int(self.layer_weights * _LAYER_BITS[quantization] / 8)

    def file_bytes(self, quantization: str) -> int:
        """About what its file has; within 8 % of those whose size is known."""
        tokens_bytes = self._embedding_bytes(_LAYER_BITS[quantization]) if self.output else 0
        return (
            self.layer_bytes(quantization)
            + self.output_bytes(quantization)
            + tokens_bytes
            + self.vocabulary * _HEADER_BYTES_PER_TOKEN
        )

    def output_bytes(self, quantization: str) -> int:
        bits = _OUTPUT_BITS[quantization]
        return self._embedding_bytes(bits if self.hidden % _BLOCK == 0 else _FALLBACK_BITS)

    def step_bytes(self, quantization: str) -> int:
        """What one token reads: every layer and the output matrix, one row of the embedding."""
        return self.layer_bytes(quantization) + self.output_bytes(quantization)

    def repacked_bytes(self, quantization: str, repacked: frozenset[str]) -> int:
        """repacked: names of the tensor types that this CPU rearranges (`ggml_types`)."""
        return self.layer_bytes(quantization) if _main_type(quantization) in repacked else 0

    def _embedding_bytes(self, bits: float) -> int:
        return int(self.embedding_weights * bits / 8)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """weights: the file. repacked: once more, rearranged by this CPU; can be done without.

    cells: keys, values and states. buffers: both processes and what a step computes in.
    """

    weights_bytes: int
    repacked_bytes: int
    cells_bytes: int
    buffers_bytes: int

    @property
    def least_bytes(self) -> int:
        return self.weights_bytes + self.cells_bytes + self.buffers_bytes

    @property
    def quickest_bytes(self) -> int:
        return self.least_bytes + self.repacked_bytes


# Both processes besides weights and cells, measured with 0.5B on two cores: 122 MiB, of which 46
# are its vocabulary (the same figure as in the daemon's plan of memory).
_PROCESSES_BYTES = 76 * 2**20
_VOCABULARY_BYTES_PER_TOKEN = 46 * 2**20 / 151_936
# What a step of `ubatch` rows computes in: the widest of its layers a few times over, in f32; and
# one row of logits for each sequence.
_WIDE_BUFFERS = 4
UBATCH = 128
SEQUENCES = 8


def memory_need(
    shape: Shape,
    quantization: str,
    *,
    file_bytes: int,
    context: int,
    repacked: frozenset[str] = frozenset(),
) -> MemoryNeed:
    """context: tokens of all sequences together. The daemon's defaults for the rest."""
    step = UBATCH * (shape.feed_forward + 2 * shape.hidden) * F32_BYTES * _WIDE_BUFFERS
    logits = SEQUENCES * shape.vocabulary * F32_BYTES
    return MemoryNeed(
        weights_bytes=file_bytes,
        repacked_bytes=shape.repacked_bytes(quantization, repacked),
        cells_bytes=context * shape.kv_bytes_per_token + SEQUENCES * shape.state_bytes_per_sequence,
        buffers_bytes=_PROCESSES_BYTES
        + int(shape.vocabulary * _VOCABULARY_BYTES_PER_TOKEN)
        + step
        + logits,
    )


def _main_type(quantization: str) -> str:
    """The type of most tensors of a file type: Q4_K of Q4_K_M."""
    names = {kind.name for kind in TENSOR_TYPES.values()}
    name = quantization
    while name not in names and "_" in name:
        name = name.rsplit("_", 1)[0]
    return name
