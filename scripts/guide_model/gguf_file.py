"""The GGUF file: the network and its vocabulary as llama.cpp reads them.

Rule 1: the keys and tensor names of architecture "qwen2" are written here and nowhere else.
Rule 2: matrices are Q8_0, vectors F32; nothing else decides the size of the file.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from .network import Network
from .tokenizer import CONTROL, Vocabulary

# Qwen's ChatML without tools; the daemon renders ChatML itself, this is for other programs.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write(path: Path, network: Network, vocabulary: Vocabulary) -> None:
    """Write the model beside `path` and rename it into place."""
    shape = network.shape
    partial = path.with_name(path.name + ".partial")
    writer = gguf.GGUFWriter(partial, "qwen2")
    writer.add_name("qwend guide")
    writer.add_description("The guide built into qwend; answers questions about qwend only.")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    _add_vocabulary(writer, vocabulary)
    for name, parameter in network.named_parameters():
        weights = parameter.detach().numpy().astype(np.float32)
        if weights.ndim < 2:
            writer.add_tensor(name, weights)
            continue
        blocks = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(path)


def _add_vocabulary(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    kinds = [
        gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL
        for token in vocabulary.tokens
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(vocabulary.merges)
    writer.add_eos_token_id(vocabulary.im_end)
    writer.add_bos_token_id(vocabulary.end_of_text)
    writer.add_pad_token_id(vocabulary.end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
