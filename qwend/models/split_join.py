"""The parts of a split GGUF, joined into the one file that the daemon opens, copies and checks.

Rule 1: the header is the first part's without its `split.` fields, with the tensors of all parts;
their data is copied as it is. Rule 2: what comes out is checked as any other file is; here only
what would make a wrong file of right parts is refused.

Format: llama.cpp's tools/gguf-split; each part is a GGUF file of its own.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from qwend.errors import ModelError
from qwend.models.ggml_types import TENSOR_TYPES
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.gguf_header import SCALARS, Field, Header, Tensor, ValueType
from qwend.models.metadata import Metadata

_SPLIT = "split."
_MAX_PARTS = 1 << 16
_DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
_BLOCK_BYTES = 1 << 20
_TYPE_NUMBERS = {kind: number for number, kind in TENSOR_TYPES.items()}


@dataclass(frozen=True, slots=True)
class _Part:
    fd: int
    file: GgufFile
    header: Header
    metadata: Metadata


class _Written:
    """A file that is written from its beginning, its SHA-256, and how far it is."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], None]) -> None:
        self._file, self._progress = file, progress
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.size_bytes += len(data)
        self._progress(self.size_bytes)

    def pad(self, alignment: int) -> None:
        self.write(bytes(-self.size_bytes % alignment))


def join(
    paths: Sequence[Path],
    target: BinaryIO,
    names: Sequence[str],
    progress: Callable[[int], None] = lambda done: None,
) -> str:
    """Write the whole to `target` and flush it; return its SHA-256.

    paths: of all parts, in their order. names: what messages call them.
    Raises: ModelError naming the part; OSError.
    """
    with ExitStack() as opened:
        parts = [_opened(path, name, opened) for path, name in zip(paths, names, strict=True)]
        _check(parts)
        alignment = parts[0].metadata.integer("general.alignment", 1, 1 << 31)
        alignment = alignment or _DEFAULT_ALIGNMENT
        written = _Written(target, progress)
        written.write(_header(parts, alignment))
        written.pad(alignment)
        for part in parts:
            for tensor in part.header.tensors.values():
                _copy(part, tensor, written)
                written.pad(alignment)
        target.flush()
        os.fsync(target.fileno())
    return written.digest.hexdigest()


def _opened(path: Path, name: str, opened: ExitStack) -> _Part:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    opened.callback(os.close, fd)
    file = GgufFile(fd, os.fstat(fd).st_size, path=name)
    header = read_header(file)
    return _Part(fd, file, header, Metadata(file, header.fields))


def _check(parts: Sequence[_Part]) -> None:
    """They are the parts of one file, each in its place. Raises: ModelError."""
    seen: set[str] = set()
    for number, part in enumerate(parts):
        metadata = part.metadata
        if metadata.required_integer(f"{_SPLIT}count", 1, _MAX_PARTS) != len(parts):
            raise metadata.bad(f"{_SPLIT}count", f"there are {len(parts)} parts")
        if metadata.required_integer(f"{_SPLIT}no", 0, _MAX_PARTS) != number:
            raise metadata.bad(f"{_SPLIT}no", f"this should be part {number} of the model")
        twice = seen & part.header.tensors.keys()
        if twice:
            raise ModelError(f"{part.file.path}: {min(twice)!r} is in another part already")
        seen |= part.header.tensors.keys()
    told = parts[0].metadata.integer(f"{_SPLIT}tensors.count", 0, 1 << 31)
    if told is not None and told != len(seen):
        what = f"{told} tensors were split, and the parts have {len(seen)}"
        raise parts[0].metadata.bad(f"{_SPLIT}tensors.count", what)


def _header(parts: Sequence[_Part], alignment: int) -> bytes:
    first = parts[0]
    fields = [field for key, field in first.header.fields.items() if not key.startswith(_SPLIT)]
    tensors = [tensor for part in parts for tensor in part.header.tensors.values()]
    pieces = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(fields))]
    pieces += [_field(first.file, field) for field in fields]
    offset = 0
    for tensor in tensors:
        rank = len(tensor.dims)
        pieces.append(
            _text(tensor.name)
            + struct.pack(f"<I{rank}QIQ", rank, *tensor.dims, _TYPE_NUMBERS[tensor.type], offset)
        )
        offset += tensor.bytes + -tensor.bytes % alignment
    return b"".join(pieces)


def _field(file: GgufFile, field: Field) -> bytes:
    """A field as it stands in the file."""
    if field.type == ValueType.STRING:
        end = file.skip_strings(field.offset, field.count, field.key)
    else:
        end = field.offset + field.count * SCALARS[field.type].size
    kind = struct.pack("<I", field.type)
    if field.is_array:
        kind = struct.pack("<IIQ", ValueType.ARRAY, field.type, field.count)
    return _text(field.key) + kind + file.read(field.offset, end - field.offset, field.key)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _copy(part: _Part, tensor: Tensor, written: _Written) -> None:
    at, left = part.header.data_offset + tensor.offset, tensor.bytes
    while left:
        block = os.pread(part.fd, min(left, _BLOCK_BYTES), at)
        if not block:
            raise part.file.bad(f"tensor {tensor.name!r}", at, "the file became shorter")
        written.write(block)
        at, left = at + len(block), left - len(block)
