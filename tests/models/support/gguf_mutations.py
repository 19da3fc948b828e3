"""Model files that are wrong in one thing: what a bad disk, a bad tool or an enemy would give.

A file is taken apart into raw fields and tensors, one of them is changed, and it is put together
again. Nothing is checked here, and what is a change to nobody's harm is as likely as any other:
some of these files load and answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from qwend.models.gguf_header import SCALARS, ValueType
from tests.models.support.gguf_builder import text, u32, u64

HUGE = (2**16, 2**31 - 1, 2**31, 2**32 - 1, 10**9, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
ARCHITECTURES = (
    *("llama", "qwen", "qwen2moe", "qwen2vl", "qwen3", "qwen3moe", "qwen35", "qwen3next"),
    *("gemma3", "mamba", "bert", "clip", "t5", "qwen2\0", "QWEN2", "", "../qwen2", "q" * 300),
)
HOSTILE = (
    *(b"", b"\0", b"%s%s%n", b"\x1b]0;owned\7\x1b[2J", b"\xff\xfe\xc3(", b"a" * 70_000),
    *(b"../../../etc/passwd", b"line\nline\r\n", b"<|im_start|>system\n", b"{% for x in y %}" * 50),
    *("\u202eelpmis".encode(), "￿𐏿".encode(), b"'; DROP TABLE models; --"),
)
SPARSE_BYTES = 100 << 30


@dataclass(frozen=True, slots=True)
class Mutant:
    """kind: what was done to it. sparse_bytes: as long as that, behind `data` there is nothing."""

    kind: str
    data: bytes
    sparse_bytes: int = 0

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            file.write(self.data)
            if self.sparse_bytes:
                file.truncate(self.sparse_bytes)


@dataclass(slots=True)
class RawField:
    """body: of a string its length too, of an array type and count of its elements."""

    key: bytes
    type: int
    body: bytes


@dataclass(slots=True)
class RawTensor:
    name: bytes
    dims: list[int]
    type: int
    offset: int


@dataclass(slots=True)
class RawGguf:
    """What a file says, right or wrong. header_bytes: of the file as it was read."""

    fields: list[RawField]
    tensors: list[RawTensor]
    data: bytes
    header_bytes: int = 0
    field_count: int | None = None
    tensor_count: int | None = None
    # At a key or a tensor's name: the length that is told of it.
    told_lengths: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes) -> RawGguf:
        """Take a right file apart."""
        tensor_count, field_count = struct.unpack_from("<QQ", data, 8)
        reader = _Reader(data, 24)
        fields = []
        for _ in range(field_count):
            key, kind = reader.text(), reader.number("<I")
            begin = reader.at
            reader.skip(kind)
            fields.append(RawField(key, kind, data[begin : reader.at]))
        tensors = []
        for _ in range(tensor_count):
            name, rank = reader.text(), reader.number("<I")
            dims = [reader.number("<Q") for _ in range(rank)]
            tensors.append(RawTensor(name, dims, reader.number("<I"), reader.number("<Q")))
        end = reader.at + -reader.at % 32
        return cls(fields, tensors, data[end:], end)

    def copied(self) -> RawGguf:
        """One whose fields and tensors can be changed."""
        return replace(
            self,
            fields=[replace(one) for one in self.fields],
            tensors=[replace(one, dims=[*one.dims]) for one in self.tensors],
            told_lengths={},
        )

    def build(self) -> bytes:
        tensors = len(self.tensors) if self.tensor_count is None else self.tensor_count
        fields = len(self.fields) if self.field_count is None else self.field_count
        parts = [b"GGUF", u32(3), u64(tensors % 2**64), u64(fields % 2**64)]
        for one in self.fields:
            parts += [self._named(one.key), u32(one.type), one.body]
        for tensor in self.tensors:
            dims = b"".join(u64(dim % 2**64) for dim in tensor.dims)
            parts += [self._named(tensor.name), u32(len(tensor.dims)), dims]
            parts += [u32(tensor.type), u64(tensor.offset % 2**64)]
        header = b"".join(parts)
        return header + bytes(-len(header) % 32) + self.data

    def _named(self, name: bytes) -> bytes:
        return u64(self.told_lengths.get(name, len(name))) + name


class _Reader:
    """at: of the next byte."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return int(value)

    def text(self) -> bytes:
        length = self.number("<Q")
        self.at += length
        return self.data[self.at - length : self.at]

    def skip(self, kind: int) -> None:
        count = 1
        if kind == ValueType.ARRAY:
            kind, count = self.number("<I"), self.number("<Q")
        if kind != ValueType.STRING:
            self.at += count * SCALARS[ValueType(kind)].size
            return
        for _ in range(count):
            self.text()


def mutants(seed: int, bases: list[bytes]) -> Iterator[Mutant]:
    """Without end, the same for the same seed; each kind comes as often as any other."""
    chance, files = Random(seed), [RawGguf.of(base) for base in bases]
    while True:
        for kind, mutate in KINDS.items():
            base = chance.choice(files)
            made = mutate(chance, base.copied())
            yield replace(made, kind=kind) if isinstance(made, Mutant) else Mutant(kind, made)


def _bits(chance: Random, file: RawGguf) -> bytes:
    data = bytearray(file.build())
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        data[chance.randrange(_before_vocabulary(data, file, chance))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _bytes(chance: Random, file: RawGguf) -> bytes:
    data = bytearray(file.build())
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[chance.randrange(_before_vocabulary(data, file, chance))] = chance.randrange(256)
    return bytes(data)


def _before_vocabulary(data: bytearray, file: RawGguf, chance: Random) -> int:
    """Most of a header is words: half of the changes go before them."""
    words = data.find(b"tokenizer.ggml.tokens")
    return words if words > 0 and chance.random() < 0.5 else file.header_bytes


def _cut(chance: Random, file: RawGguf) -> bytes:
    data = file.build()
    most = file.header_bytes if chance.random() < 0.5 else len(data)
    return data[: chance.choice((chance.randrange(most), chance.randrange(most) // 4096 * 4096))]


def _longer(chance: Random, file: RawGguf) -> Mutant:
    data = file.build()
    place = chance.choice((len(data), file.header_bytes, chance.randrange(file.header_bytes)))
    more = chance.randbytes(chance.choice((1, 31, 32, 4096)))
    sparse = chance.choice((0, 0, SPARSE_BYTES))
    return Mutant("", data[:place] + more + data[place:], sparse)


def _huge_counts(chance: Random, file: RawGguf) -> Mutant:
    huge = chance.choice(HUGE)
    match chance.randrange(5):
        case 0:
            file.field_count = huge
        case 1:
            file.tensor_count = huge
        case 2:
            one = chance.choice(file.fields)
            file.told_lengths[one.key] = huge
        case 3:
            file.told_lengths[chance.choice(file.tensors).name] = huge
        case _:
            one = chance.choice(
                [one for one in file.fields if one.type in (ValueType.STRING, ValueType.ARRAY)]
            )
            at = 0 if one.type == ValueType.STRING else 4
            one.body = one.body[:at] + u64(huge) + one.body[at + 8 :]
    return Mutant("", file.build(), chance.choice((0, SPARSE_BYTES)))


def _swapped(chance: Random, file: RawGguf) -> bytes:
    if chance.random() < 0.5:
        one, other = chance.sample(file.fields, 2)
        if chance.random() < 0.5:
            one.key, other.key = other.key, one.key
        else:
            one.body, other.body = other.body, one.body
    else:
        this, that = chance.sample(file.tensors, 2)
        match chance.randrange(3):
            case 0:
                this.offset, that.offset = that.offset, this.offset
            case 1:
                this.dims, that.dims = that.dims, this.dims
            case _:
                this.name, that.name = that.name, this.name
    return file.build()


def _offsets(chance: Random, file: RawGguf) -> bytes:
    one = chance.choice(file.tensors)
    by = chance.choice((-32, -1, 1, 32, 4096))
    one.offset = chance.choice((one.offset + by, 0, chance.choice(HUGE), len(file.data)))
    return file.build()


def _sizes(chance: Random, file: RawGguf) -> bytes:
    one = chance.choice(file.tensors)
    at = chance.randrange(len(one.dims))
    match chance.randrange(4):
        case 0:
            one.dims[at] += chance.choice((-1, 1, -32, 32))
        case 1:
            one.dims[at] = chance.choice((0, 1, *HUGE))
        case 2:
            one.dims = one.dims[::-1] + [1] * chance.randrange(4)
        case _:
            one.dims = chance.choice(([], [*one.dims, 2], [2**32, 2**32], one.dims[:1]))
    return file.build()


def _types(chance: Random, file: RawGguf) -> bytes:
    if chance.random() < 0.5:
        chance.choice(file.fields).type = chance.choice((*range(14), 255, 2**32 - 1))
    else:
        chance.choice(file.tensors).type = chance.choice((*range(40), 2**31 - 1, 2**32 - 1))
    return file.build()


def _missing_or_twice(chance: Random, file: RawGguf) -> bytes:
    items: list[RawField] | list[RawTensor] = chance.choice((file.fields, file.tensors))
    one = chance.randrange(len(items))
    if chance.random() < 0.7:
        del items[one]
    else:
        items.append(items[one])  # type: ignore[arg-type]
    return file.build()


def _numbers(chance: Random, file: RawGguf) -> bytes:
    one = chance.choice([one for one in file.fields if one.type < ValueType.BOOL])
    form = SCALARS[ValueType(one.type)]
    if one.type == ValueType.FLOAT32:
        one.body = form.pack(chance.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-45)))
    else:
        (now,) = form.unpack(one.body)
        values = (0, 1, now - 1, now + 1, 2 * now, 512, 513, 2**31 - 1, 2**31, 2**32 - 1)
        one.body = (chance.choice(values) % 2 ** (8 * form.size)).to_bytes(form.size, "little")
    return file.build()


def _strings(chance: Random, file: RawGguf) -> bytes:
    hostile = chance.choice(HOSTILE)
    match chance.randrange(4):
        case 0:
            chance.choice(file.tensors).name = hostile
        case 1:
            chance.choice(file.fields).key = hostile
        case _:
            words = [one for one in file.fields if one.type == ValueType.STRING]
            chance.choice(words).body = text(hostile)
    return file.build()


def _architectures(chance: Random, file: RawGguf) -> bytes:
    name = chance.choice(ARCHITECTURES).encode()
    renamed = chance.random() < 0.7
    for one in file.fields:
        if one.key == b"general.architecture":
            one.body = text(name)
        elif renamed and one.key.startswith(b"qwen2."):
            one.key = name + one.key.removeprefix(b"qwen2")
    return file.build()


def _vocabulary(chance: Random, file: RawGguf) -> bytes:
    key = chance.choice((b"tokenizer.ggml.tokens", b"tokenizer.ggml.merges"))
    (one,) = (one for one in file.fields if one.key == key)
    reader = _Reader(one.body, 4)
    words = [reader.text() for _ in range(reader.number("<Q"))] or [b"a b"]
    at = chance.randrange(len(words))
    match chance.randrange(5):
        case 0:
            words[at] = chance.choice(HOSTILE)
        case 1:
            words[at] = words[chance.randrange(len(words))]
        case 2:
            chance.shuffle(words)
        case 3:
            words = [chance.choice((b"", b"x", b"\xff"))] * len(words)
        case _:
            words = words[:at]
    body = b"".join(text(word) for word in words)
    one.body = u32(ValueType.STRING) + u64(len(words)) + body
    return file.build()


def _weights(chance: Random, file: RawGguf) -> bytes:
    data, size = bytearray(file.data), chance.choice((4, 64, 4096, len(file.data)))
    at = chance.randrange(max(1, len(data) - size))
    fill = (bytes(size), b"\xff" * size, b"\0\x7e" * (size // 2), chance.randbytes(size))
    data[at : at + size] = chance.choice(fill)
    return replace(file, data=bytes(data)).build()


def _no_model(chance: Random, file: RawGguf) -> Mutant:
    data = file.build()
    kinds = (
        *(b"", b"G", b"GGUF", b"GGUF\3\0\0\0", b"GGUF" + bytes(60), b"GGML" + data[4:]),
        *(data[:4] + data[4:8][::-1] + data[8:], data[:4] + u32(1) + data[8:], bytes(4096)),
        *(b"\x89PNG\r\n\x1a\n" + bytes(90), b"#!/bin/sh\nreboot\n", chance.randbytes(9_000)),
    )
    return Mutant("", chance.choice(kinds), chance.choice((0, 0, SPARSE_BYTES)))


KINDS: dict[str, Callable[[Random, RawGguf], bytes | Mutant]] = {
    "bits": _bits,
    "bytes": _bytes,
    "cut": _cut,
    "longer": _longer,
    "huge counts": _huge_counts,
    "swapped": _swapped,
    "offsets": _offsets,
    "sizes": _sizes,
    "types": _types,
    "missing or twice": _missing_or_twice,
    "numbers": _numbers,
    "strings": _strings,
    "architectures": _architectures,
    "vocabulary": _vocabulary,
    "weights": _weights,
    "no model": _no_model,
}
