"""Typed access to the fields of a GGUF header, with each value's range checked as it is read.

Rule 1: a field of the wrong type or range is an error that names it, never a default. Rule 2: this
file does not know which fields a model needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from qwend.errors import ModelError
from qwend.models.gguf_file import GgufFile, short
from qwend.models.gguf_header import SCALARS, Field, ValueType

CONVERT = "convert the model again with a current llama.cpp"
MAX_TEXT_BYTES = 1 << 20  # the longest text of a Qwen header is a chat template of 8 KiB
FLOATS = frozenset({ValueType.FLOAT32, ValueType.FLOAT64})
INTEGERS = frozenset(SCALARS) - FLOATS - {ValueType.BOOL}


class Metadata:
    """The fields of one header. Raises: ModelError from every method."""

    def __init__(self, file: GgufFile, fields: Mapping[str, Field]) -> None:
        self._file = file
        self._fields = fields

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def missing(self, key: str) -> ModelError:
        return ModelError(f"{self._file.path}: the header has no {short(repr(key))}; {CONVERT}")

    def bad(self, key: str, what: str, to_do: str = CONVERT) -> ModelError:
        return self._file.bad(repr(key), self._fields[key].offset, what, to_do)

    def text(self, key: str) -> str | None:
        field = self._fields.get(key)
        if field is None:
            return None
        if field.type != ValueType.STRING or field.is_array:
            raise self.bad(key, "must be a text")
        raw = self._file.text(field.offset, MAX_TEXT_BYTES, repr(key))
        return raw.decode("utf-8", "replace")

    def integer(self, key: str, least: int, most: int) -> int | None:
        field = self._fields.get(key)
        if field is None:
            return None
        if field.is_array:
            raise self.bad(key, "must be one whole number")
        return self._integers(field, least, most)[0]

    def required_integer(self, key: str, least: int, most: int) -> int:
        value = self.integer(key, least, most)
        if value is None:
            raise self.missing(key)
        return value

    def integers(self, key: str, count: int, least: int, most: int) -> tuple[int, ...] | None:
        """One number for all of `count` layers, or one per layer."""
        field = self._fields.get(key)
        if field is None:
            return None
        if field.is_array and field.count != count:
            raise self.bad(key, f"has {field.count} numbers for {count} layers")
        return self._integers(field, least, most)

    def positive_number(self, key: str) -> float | None:
        field = self._fields.get(key)
        if field is None:
            return None
        if field.type not in FLOATS or field.is_array:
            raise self.bad(key, "must be one floating-point number")
        layout = SCALARS[field.type]
        value: float = layout.unpack(self._file.read(field.offset, layout.size, repr(key)))[0]
        if not (math.isfinite(value) and value > 0):
            raise self.bad(key, f"{value} must be finite and positive")
        return value

    def array(self, key: str, *types: ValueType) -> Field | None:
        """The field itself, known to be an array of one of `types`."""
        field = self._fields.get(key)
        if field is not None and not (field.is_array and field.type in types):
            raise self.bad(key, f"must be an array of {' or '.join(t.name for t in types)}")
        return field

    def _integers(self, field: Field, least: int, most: int) -> tuple[int, ...]:
        if field.type not in INTEGERS:
            raise self.bad(field.key, "must be a whole number")
        layout = SCALARS[field.type]
        raw = self._file.read(field.offset, field.count * layout.size, repr(field.key))
        values: tuple[int, ...] = tuple(value for (value,) in layout.iter_unpack(raw))
        for value in values:
            if not least <= value <= most:
                raise self.bad(field.key, f"{value} is outside of {least} to {most}")
        return values
