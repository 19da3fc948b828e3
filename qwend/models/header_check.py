"""What a model must be for the engine to get it, and the facts learnt on the way.

Rule 1: what makes llama.cpp abort, or run on with a wrong end token, is refused here, before the
engine sees the file. Rule 2: no tensor data is read: weights may be anything.

Source of the rules: llama-model.cpp, where a GGML_ASSERT ends the process (no layers, more than
LLAMA_MAX_LAYERS); for the types of tensors, every role of every architecture loaded in each type;
`vocabulary_check` and `architecture_check` have the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import BinaryIO

from qwend.models.architecture_check import check_architecture
from qwend.models.ggml_types import FILE_TYPES
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.gguf_header import Header
from qwend.models.metadata import Metadata
from qwend.models.vocabulary_check import QWEN, Vocabulary, check_vocabulary

ARCHITECTURES = ("qwen2", "qwen3")  # and all names that start so: qwen2moe, qwen3moe, ...
MAX_LAYERS = 512  # LLAMA_MAX_LAYERS (llama-hparams.h)
MAX_WIDTH = 1 << 20  # the widest Qwen: 8,192, its feed-forward layer 29,568
MAX_CONTEXT = 1 << 28  # tokens; the longest of a Qwen: 2^20

EMBEDDING = "token_embd.weight"
GATE = ".ffn_gate_inp_shexp.weight"  # a matrix, of one row where one expert is shared
CONVOLUTION = ".ssm_conv1d.weight"
# Of the CPU's table of types these have no product of vectors (type_traits_cpu, ggml-cpu.c).
NOT_MULTIPLIED = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"})
OTHER = "give another model file"


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What a checked header says. `context_length` in tokens, `tensor_bytes` without padding.

    matrix_bytes: of the tensors of two dimensions and more, by the name of their type.
    """

    architecture: str
    name: str
    quantization: str
    parameter_count: int
    context_length: int
    layers: int
    embedding_length: int
    head_count: int
    head_count_kv: int
    vocab_size: int
    tokenizer: str
    chat_template: str | None
    is_chatml: bool
    split_count: int
    tensor_bytes: int
    head_width: int
    matrix_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Shape:
    context_length: int
    layers: int
    embedding_length: int
    head_count: int
    head_count_kv: int
    head_width: int


def check_gguf(
    file: BinaryIO | int, size: int, *, path: str = "", allow_any_architecture: bool = False
) -> GgufFacts:
    """Check the header of an open model file, given as an object or a descriptor.

    path: how messages name the file. Raises: ModelError naming file, field, byte and remedy.
    """
    source = GgufFile(file, size, path=path)
    header = read_header(source)
    metadata = Metadata(source, header.fields)
    architecture = _check_architecture(metadata, allow_any_architecture)
    split_count = _check_whole(metadata)
    shape = _check_shape(metadata, architecture, allow_any_architecture)
    if not allow_any_architecture:
        check_architecture(
            source,
            metadata,
            header.tensors,
            architecture,
            layers=shape.layers,
            head_width=shape.head_width,
        )
    vocabulary = check_vocabulary(source, metadata, any_tokenizer=allow_any_architecture)
    _check_tensors(source, header, shape, vocabulary, allow_any_architecture)
    template = metadata.text("tokenizer.chat_template")
    return GgufFacts(
        architecture=architecture,
        name=metadata.text("general.name") or "",
        quantization=_quantization(metadata, header),
        parameter_count=sum(tensor.elements for tensor in header.tensors.values()),
        context_length=shape.context_length,
        layers=shape.layers,
        embedding_length=shape.embedding_length,
        head_count=shape.head_count,
        head_count_kv=shape.head_count_kv,
        vocab_size=vocabulary.size,
        tokenizer=vocabulary.tokenizer,
        chat_template=template,
        is_chatml=vocabulary.has_chatml_markers and (not template or "<|im_start|>" in template),
        split_count=split_count,
        tensor_bytes=sum(tensor.bytes for tensor in header.tensors.values()),
        head_width=shape.head_width,
        matrix_bytes=_matrix_bytes(header),
    )


def _check_architecture(metadata: Metadata, any_architecture: bool) -> str:
    key = "general.architecture"
    architecture = metadata.text(key)
    if architecture is None:
        raise metadata.missing(key)
    if not (architecture.startswith(ARCHITECTURES) or any_architecture):
        known = " and ".join(ARCHITECTURES)
        what = f"the architecture is {architecture!r}, and only {known} are known"
        raise metadata.bad(key, what, QWEN)
    return architecture


def _check_whole(metadata: Metadata) -> int:
    """A model, not an adapter, in one file; returns the number of files: 1."""
    kind = metadata.text("general.type")
    if kind not in (None, "model"):
        raise metadata.bad("general.type", f"this is {kind!r}, not a model", OTHER)
    split_count = metadata.integer("split.count", 0, 1 << 16) or 1
    if split_count > 1:
        what = f"this is one of {split_count} parts of a model"
        to_do = "`qwenctl models import` takes all of them, and gives them one name"
        raise metadata.bad("split.count", what, to_do)
    return split_count


def _check_shape(metadata: Metadata, architecture: str, any_architecture: bool) -> Shape:
    def key(name: str) -> str:
        return f"{architecture}.{name}"

    layers = metadata.required_integer(key("block_count"), 1, MAX_LAYERS)
    context_length = metadata.required_integer(key("context_length"), 1, MAX_CONTEXT)
    embedding_length = metadata.required_integer(key("embedding_length"), 1, MAX_WIDTH)
    # Hybrid models give one number per layer, 0 where the layer has no attention.
    heads = metadata.integers(key("attention.head_count"), layers, 0, MAX_WIDTH)
    if heads is None or max(heads) == 0:
        raise metadata.missing(key("attention.head_count"))
    heads_kv = metadata.integers(key("attention.head_count_kv"), layers, 0, MAX_WIDTH) or heads
    head_count, head_count_kv = max(heads), max(heads_kv)
    if head_count_kv == 0 or head_count % head_count_kv:
        what = f"{head_count_kv} does not divide the {head_count} heads"
        raise metadata.bad(key("attention.head_count_kv"), what)
    for name in ("feed_forward_length", "expert_feed_forward_length"):
        metadata.integers(key(name), layers, 0, MAX_WIDTH)
    for name in ("attention.key_length", "attention.value_length"):
        metadata.integer(key(name), 1, MAX_WIDTH)
    if key("attention.key_length") not in metadata and embedding_length % head_count:
        what = f"{embedding_length} is no multiple of the {head_count} heads"
        raise metadata.bad(key("embedding_length"), what)
    metadata.positive_number(key("rope.freq_base"))
    epsilon = key("attention.layer_norm_rms_epsilon")
    if metadata.positive_number(epsilon) is None and not any_architecture:
        raise metadata.missing(epsilon)
    width = metadata.integer(key("attention.key_length"), 1, MAX_WIDTH)
    head_width = width or embedding_length // head_count
    return Shape(context_length, layers, embedding_length, head_count, head_count_kv, head_width)


def _check_tensors(
    file: GgufFile, header: Header, shape: Shape, vocabulary: Vocabulary, any_architecture: bool
) -> None:
    if not header.tensors:
        what = "there are no tensors: this is a vocabulary, not a model"
        raise file.bad("the tensor count", 8, what, OTHER)
    if not any_architecture:
        _check_tensor_types(file, header)
    embedding = header.tensors.get(EMBEDDING)
    expected = (shape.embedding_length, vocabulary.size)
    if any_architecture or (embedding is not None and embedding.dims == expected):
        return
    found = "missing" if embedding is None else f"{embedding.dims} and not {expected}"
    raise file.bad(f"tensor {EMBEDDING!r}", header.data_offset, f"is {found}")


def _check_tensor_types(file: GgufFile, header: Header) -> None:
    for tensor in header.tensors.values():
        is_vector = prod(tensor.dims[1:]) == 1 and not tensor.name.endswith(GATE)
        if is_vector or tensor.name.endswith(CONVOLUTION):
            what, right = "and must be of F32", tensor.type.name == "F32"
        else:
            what, right = "which is none of weights", tensor.type.name not in NOT_MULTIPLIED
        if not right:
            at, what = header.data_offset + tensor.offset, f"is of type {tensor.type.name}, {what}"
            raise file.bad(f"tensor {tensor.name!r}", at, what, OTHER)


def _matrix_bytes(header: Header) -> dict[str, int]:
    found: Counter[str] = Counter()
    for tensor in header.tensors.values():
        if len(tensor.dims) > 1:
            found[tensor.type.name] += tensor.bytes
    return dict(found)


def _quantization(metadata: Metadata, header: Header) -> str:
    """What the file says of itself; otherwise the type that most bytes have."""
    file_type = metadata.integer("general.file_type", 0, 1 << 31)
    if file_type is not None and file_type in FILE_TYPES:
        return FILE_TYPES[file_type]
    bytes_of_type: Counter[str] = Counter()
    for tensor in header.tensors.values():
        bytes_of_type[tensor.type.name] += tensor.bytes
    return bytes_of_type.most_common(1)[0][0]
