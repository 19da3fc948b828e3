"""The header of a GGUF file: its metadata fields and the descriptions of its tensors.

Rule 1: counts are limited before they are believed. Rule 2: values stay in the file until asked
for (`Field.offset`), so memory does not grow with what the file declares. Rule 3: this file does
not know what makes a model usable; that is `header_check`.

Format: ggml/include/gguf.h. Little-endian; a big-endian file shows as a huge version number.
"""

from __future__ import annotations

import math
import struct

from qwend.models.ggml_types import REMOVED_TENSOR_TYPES, TENSOR_TYPES
from qwend.models.gguf_file import GgufFile
from qwend.models.gguf_header import SCALARS, Field, Header, Tensor, ValueType

# Each limit is several times what the largest Qwen file of 2026 holds (in brackets); together they
# keep the reading of a hostile file under 5 s and 64 MiB.
MAX_FIELDS = 4096  # (45)
MAX_KEY_BYTES = 256  # (51)
MAX_TENSORS = 16_384  # (1,131: a mixture of experts with 94 layers)
MAX_STRINGS = 1 << 21  # in all string arrays together (496,000: 248,320 tokens and their merges)
MAX_TENSOR_NAME_BYTES = 63  # GGML_MAX_NAME less its terminator
MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
MAX_INT64 = 2**63 - 1  # ggml counts elements in int64_t
# Behind the last tensor. No writer leaves any but padding; a long rest is read into memory by
# llama.cpp, which maps the whole file.
MAX_REST_BYTES = 1 << 20

WRONG_FILE = "give the path of a GGUF model"
CONVERT = "convert the model again with a current llama.cpp"


def read_header(file: GgufFile) -> Header:
    """Everything before the tensor data. Raises: ModelError."""
    if file.read(0, 4, "the magic word") != b"GGUF":
        raise file.bad("the magic word", 0, "this is not a GGUF file", WRONG_FILE)
    version = file.u32(4, "the version")
    if version not in (2, 3):
        what = f"version {version:#x}, only 2 and 3 (little-endian) are read"
        raise file.bad("the version", 4, what, CONVERT)
    tensor_count = file.u64(8, "the tensor count")
    field_count = file.u64(16, "the field count")
    if tensor_count > MAX_TENSORS:
        raise file.bad("the tensor count", 8, f"{tensor_count}, the limit is {MAX_TENSORS}")
    if field_count > MAX_FIELDS:
        raise file.bad("the field count", 16, f"{field_count}, the limit is {MAX_FIELDS}")
    fields, offset = _read_fields(file, 24, field_count)
    alignment = _alignment(file, fields)
    tensors, offset = _read_tensors(file, offset, tensor_count)
    padding = -offset % alignment if tensors else 0
    header = Header(fields, tensors, offset + padding)
    _check_layout(file, header, alignment)
    return header


def shown(name: bytes) -> str:
    """A name from the file, safe to print in a message."""
    return repr(name.decode("utf-8", "backslashreplace"))


def _read_fields(file: GgufFile, offset: int, count: int) -> tuple[dict[str, Field], int]:
    fields: dict[str, Field] = {}
    strings_left = MAX_STRINGS
    for index in range(count):
        start, label = offset, f"the key of field {index}"
        raw = file.text(offset, MAX_KEY_BYTES, label)
        offset += 8 + len(raw)
        key = raw.decode("utf-8", "backslashreplace")
        if not key or key in fields:
            what = f"the key {key!r} occurs twice" if key else "the key is empty"
            raise file.bad(label, start, what)
        label = shown(raw)
        kind, offset = file.u32(offset, label), offset + 4
        length, is_array = 1, kind == ValueType.ARRAY
        if is_array:
            kind, length = file.u32(offset, label), file.u64(offset + 4, label)
            offset += 12
        if kind not in ValueType.__members__.values() or kind == ValueType.ARRAY:
            raise file.bad(label, start, f"its value type {kind} does not exist", CONVERT)
        fields[key] = Field(key, ValueType(kind), is_array, length, offset)
        if kind == ValueType.STRING:
            strings_left -= length
            if strings_left < 0:
                raise file.bad(label, offset, f"more than {MAX_STRINGS} strings in the header")
            offset = file.skip_strings(offset, length, label)
        else:
            size = length * SCALARS[ValueType(kind)].size
            if offset + size > file.size:
                raise file.bad(label, offset, f"{size} bytes do not fit into {file.size}")
            offset += size
    return fields, offset


def _read_tensors(file: GgufFile, offset: int, count: int) -> tuple[dict[str, Tensor], int]:
    tensors: dict[str, Tensor] = {}
    for index in range(count):
        start, label = offset, f"the name of tensor {index}"
        raw = file.text(offset, MAX_TENSOR_NAME_BYTES, label)
        offset += 8 + len(raw)
        name, label = raw.decode("utf-8", "backslashreplace"), f"tensor {shown(raw)}"
        if name in tensors:
            raise file.bad(label, start, "the name occurs twice")
        rank, offset = file.u32(offset, label), offset + 4
        if not 1 <= rank <= MAX_DIMENSIONS:
            raise file.bad(label, start, f"{rank} dimensions, 1 to {MAX_DIMENSIONS} are possible")
        raw_dims = file.read(offset, 8 * rank + 12, label)
        dims = struct.unpack_from(f"<{rank}Q", raw_dims)
        kind, data_offset = struct.unpack_from("<IQ", raw_dims, 8 * rank)
        offset += len(raw_dims)
        if min(dims) < 1 or math.prod(dims) > MAX_INT64:
            raise file.bad(label, start, f"its dimensions {dims} are impossible")
        if kind not in TENSOR_TYPES:
            known_as = REMOVED_TENSOR_TYPES.get(kind)
            which = f"{known_as}, which llama.cpp has removed" if known_as else "unknown"
            raise file.bad(label, start, f"its type {kind} is {which}", CONVERT)
        kind = TENSOR_TYPES[kind]
        if dims[0] % kind.block_elements:
            what = f"rows of {dims[0]} are no multiple of {kind.name}'s {kind.block_elements}"
            raise file.bad(label, start, what)
        tensors[name] = Tensor(name, dims, kind, data_offset)
    return tensors, offset


def _alignment(file: GgufFile, fields: dict[str, Field]) -> int:
    field = fields.get("general.alignment")
    if field is None:
        return 32  # GGUF_DEFAULT_ALIGNMENT
    label = repr(field.key)
    if field.type != ValueType.UINT32 or field.is_array:
        raise file.bad(label, field.offset, "must be an unsigned 32-bit number", CONVERT)
    alignment = file.u32(field.offset, label)
    if alignment == 0 or alignment & (alignment - 1):
        raise file.bad(label, field.offset, f"{alignment} is no power of two")
    return alignment


def _check_layout(file: GgufFile, header: Header, alignment: int) -> None:
    """Tensors follow each other without gaps but alignment, and end inside of the file."""
    expected = 0
    for tensor in header.tensors.values():
        at, label = header.data_offset + tensor.offset, f"tensor {tensor.name!r}"
        if tensor.offset != expected:
            what = f"its data offset is {tensor.offset}, the tensors before it end at {expected}"
            raise file.bad(label, at, what)
        if at + tensor.bytes > file.size:
            what = f"its {tensor.bytes} bytes of data do not fit, the file ends at {file.size}"
            raise file.bad(label, at, what)
        expected += tensor.bytes + -tensor.bytes % alignment
    end = header.data_offset + expected
    if header.tensors and file.size - end > MAX_REST_BYTES:
        what = f"{file.size - end} bytes come behind it, the limit is {MAX_REST_BYTES}"
        raise file.bad("the last tensor", end, what)
