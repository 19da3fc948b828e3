from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest

from qwend.errors import ModelError
from qwend.models.ggml_types import TENSOR_TYPES
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.gguf_header import Header, ValueType
from tests.models.support.gguf_builder import (
    GgufBuilder,
    TensorSpec,
    Value,
    integers,
    number,
    string,
    strings,
    tiny_model,
)


def read(data: bytes) -> Header:
    return read_header(GgufFile(io.BytesIO(data), len(data), path="m.gguf"))


def refusal(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read(data)
    return str(caught.value)


def with_tensor(spec: TensorSpec, name: str = "t") -> bytes:
    model = tiny_model()
    model.tensors[name] = spec
    return model.build()


def test_fields_and_tensors_are_found_where_they_lie() -> None:
    data = tiny_model().build()
    header = read(data)
    context = header.fields["qwen2.context_length"]
    assert struct.unpack_from("<I", data, context.offset) == (64,)
    norm = header.tensors["output_norm.weight"]
    assert (norm.dims, norm.type.name, norm.bytes) == ((32,), "F32", 128)
    assert header.data_offset + norm.offset + norm.bytes == len(data)


def test_version_2_is_read_too() -> None:
    model = tiny_model()
    model.version = 2
    assert len(read(model.build()).tensors) == 2


def test_an_alignment_of_its_own_moves_the_data() -> None:
    model = tiny_model()
    model.alignment = 256
    model.fields["general.alignment"] = number(256)
    assert read(model.build()).data_offset % 256 == 0


def test_a_string_longer_than_a_window_is_skipped() -> None:
    model = tiny_model()
    model.fields = {"x": strings(["s" * 400_000, "", "t" * 300_000]), **model.fields}
    assert "general.architecture" in read(model.build()).fields


def test_strings_are_the_same_whatever_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    values = ["", "a", "b" * 20, "c" * 100, "", "d" * 7]
    data = GgufBuilder(fields={"x": strings(values)}).build()
    field = read(data).fields["x"]
    for window in range(1, 60):
        monkeypatch.setattr("qwend.models.gguf_file.WINDOW_BYTES", window)
        file = GgufFile(io.BytesIO(data), len(data))
        found = [s.decode() for s in file.strings(field.offset, field.count, 100, "x")]
        assert found == values
        assert read(data).fields["x"] == field


@pytest.mark.parametrize("magic", [b"GGML", b"\0\0\0\0", b"<!DO", b"PK\3\4"])
def test_another_kind_of_file_is_told_apart(magic: bytes) -> None:
    message = refusal(magic + bytes(100))
    assert "not a GGUF file" in message
    assert "m.gguf" in message


@pytest.mark.parametrize("version", [0, 1, 4, 0x03000000])
def test_other_versions_are_refused(version: int) -> None:
    model = tiny_model()
    model.version = version
    assert "only 2 and 3" in refusal(model.build())


@pytest.mark.row("E3")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.fields.update({"": number(1)}), "the key is empty"),
        (lambda m: m.fields.update({"k" * 257: number(1)}), "257 bytes long"),
        (lambda m: m.fields.update({"general.alignment": number(0)}), "no power of two"),
        (lambda m: m.fields.update({"general.alignment": number(48)}), "no power of two"),
        (lambda m: m.fields.update({"general.alignment": string("32")}), "unsigned 32-bit"),
        (lambda m: m.fields.update({"general.alignment": number(64)}), "damaged"),
        (lambda m: setattr(m, "field_count", 20), "damaged"),
        (lambda m: setattr(m, "field_count", 18), "damaged"),
        (lambda m: setattr(m, "tensor_count", 3), "0 dimensions"),
        (lambda m: setattr(m, "field_count", 10**9), "the limit is 4096"),
        (lambda m: setattr(m, "tensor_count", 10**9), "the limit is 16384"),
        (lambda m: setattr(m, "field_count", 2**64 - 1), "the limit is 4096"),
    ],
)
def test_a_header_that_cannot_be_is_refused(
    change: Callable[[GgufBuilder], object], said: str
) -> None:
    model = tiny_model()
    change(model)
    assert said in refusal(model.build())


@pytest.mark.row("E3")
def test_a_key_that_occurs_twice_is_refused() -> None:
    model = tiny_model()
    model.fields["qwen2.block_counu"] = number(1)
    data = model.build().replace(b"qwen2.block_counu", b"qwen2.block_count")
    assert "'qwen2.block_count' occurs twice" in refusal(data)


@pytest.mark.row("E3")
@pytest.mark.parametrize("kind", [9, 13, 255, 2**32 - 1])
def test_an_unknown_value_type_is_refused(kind: int) -> None:
    key = struct.pack("<Q", 1) + b"k"
    wrong_scalar = key + struct.pack("<IIQ", kind, kind, 1) + bytes(64)
    wrong_array = key + struct.pack("<IIQ", 9, kind, 1) + bytes(64)
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    assert f"type {kind} does not exist" in refusal(start + wrong_scalar)
    assert f"type {kind} does not exist" in refusal(start + wrong_array)


@pytest.mark.row("E3")
@pytest.mark.parametrize("kind", [kind for kind in ValueType if kind != ValueType.ARRAY])
@pytest.mark.parametrize("count", [100, 10**9, 2**61, 2**64 - 1])
def test_an_array_longer_than_the_file_is_refused(kind: ValueType, count: int) -> None:
    field = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, kind, count) + b"\1" * 64
    assert "at byte" in refusal(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + field)


@pytest.mark.row("E3")
@pytest.mark.parametrize("length", [65, 2**31, 2**63, 2**64 - 8, 2**64 - 1])
def test_a_string_longer_than_the_file_is_refused(length: int) -> None:
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    text = struct.pack("<Q", length) + bytes(56)
    for kind in (struct.pack("<I", 8), struct.pack("<IIQ", 9, 8, 2)):
        assert "at byte" in refusal(start + struct.pack("<Q", 1) + b"k" + kind + text)
    assert "bytes long, the limit is 256" in refusal(start + struct.pack("<Q", 10**11) + bytes(64))


@pytest.mark.row("E3")
@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TensorSpec(()), "0 dimensions"),
        (TensorSpec((1, 1, 1, 1, 1)), "5 dimensions"),
        (TensorSpec((0,)), "are impossible"),
        (TensorSpec((2**63,)), "are impossible"),
        (TensorSpec((2**32, 2**32, 2**32, 2**32)), "are impossible"),
        (TensorSpec((2**62,)), "do not fit"),
        (TensorSpec((100 << 30,)), "do not fit"),
        (TensorSpec((33,), type=2), "no multiple of Q4_0's 32"),
        (TensorSpec((32,), type=4), "Q4_2, which llama.cpp has removed"),
        (TensorSpec((32,), type=31), "Q4_0_4_4, which llama.cpp has removed"),
        (TensorSpec((32,), type=43), "type 43 is unknown"),
        (TensorSpec((32,), type=2**32 - 1), "is unknown"),
        (TensorSpec((1,), offset=0, data=bytes(4)), "its data offset is 0"),
        (TensorSpec((1,), offset=2**64 - 32, data=bytes(4)), "its data offset is"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(spec: TensorSpec, said: str) -> None:
    message = refusal(with_tensor(spec))
    assert "tensor 't'" in message
    assert said in message


def test_two_tensors_of_one_name_are_refused() -> None:
    data = with_tensor(TensorSpec((1,), data=bytes(4)), "output_norm.weighu")
    assert "occurs twice" in refusal(data.replace(b"weighu", b"weight"))


def test_a_tensor_name_that_ggml_would_cut_is_refused() -> None:
    assert "64 bytes long, the limit is 63" in refusal(with_tensor(TensorSpec((1,)), "n" * 64))


@pytest.mark.row("E3")
@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("name", ["token_embd.weight", "output_norm.weight"])
def test_a_tensor_that_is_one_off_is_refused(name: str, by: int) -> None:
    model = tiny_model()
    start = 0 if name == "token_embd.weight" else 160
    model.tensors[name].offset = (start + by) % 2**64
    assert f"tensor {name!r}" in refusal(model.build())


def test_the_last_byte_of_the_data_counts() -> None:
    data = tiny_model().build()
    read(data)
    assert "do not fit" in refusal(data[:-1])


@pytest.mark.parametrize("kind", TENSOR_TYPES)
def test_every_known_type_has_the_size_that_its_data_needs(kind: int) -> None:
    known = TENSOR_TYPES[kind]
    spec = TensorSpec((known.block_elements, 3), type=kind, data=bytes(3 * known.block_bytes))
    tensor = read(with_tensor(spec)).tensors["t"]
    assert (tensor.bytes, tensor.elements) == (3 * known.block_bytes, 3 * known.block_elements)


def test_names_from_the_file_cannot_write_to_a_terminal() -> None:
    model = tiny_model()
    model.fields["\x1b[2J\n"] = Value(ValueType.ARRAY, [1], ValueType.UINT8)
    model.tensors["\x1b]0;x\x07"] = TensorSpec((0,))
    assert refusal(model.build()).isprintable()
    model.tensors.clear()
    model.fields["\x1b[2J\n"] = integers([])
    broken = model.build().replace(b"\x1b[2J\n" + struct.pack("<I", 9), b"\x1b[2J\n\xff\0\0\0")
    assert refusal(broken).isprintable()
