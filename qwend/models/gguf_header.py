"""The values of a GGUF header: field types, fields, tensors.

Nothing here reads; a `Field` says where its value lies, not what it is.
Format: ggml/include/gguf.h.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum

from qwend.models.ggml_types import TensorType


class ValueType(IntEnum):
    """`enum gguf_type`."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


SCALARS: dict[ValueType, struct.Struct] = {
    ValueType.UINT8: struct.Struct("<B"),
    ValueType.INT8: struct.Struct("<b"),
    ValueType.UINT16: struct.Struct("<H"),
    ValueType.INT16: struct.Struct("<h"),
    ValueType.UINT32: struct.Struct("<I"),
    ValueType.INT32: struct.Struct("<i"),
    ValueType.FLOAT32: struct.Struct("<f"),
    ValueType.BOOL: struct.Struct("<?"),
    ValueType.UINT64: struct.Struct("<Q"),
    ValueType.INT64: struct.Struct("<q"),
    ValueType.FLOAT64: struct.Struct("<d"),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One metadata value, still in the file: `count` elements of `type` from byte `offset` on."""

    key: str
    type: ValueType
    is_array: bool
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor; `offset` counts from the start of the data section."""

    name: str
    dims: tuple[int, ...]
    type: TensorType
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.elements // self.type.block_elements * self.type.block_bytes


@dataclass(frozen=True, slots=True)
class Header:
    fields: dict[str, Field]
    tensors: dict[str, Tensor]
    data_offset: int
