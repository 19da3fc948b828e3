"""A split model, joined: the same tensors as the whole, and a file that passes the pre-check."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from qwend.errors import ConfigError, FetchError, ModelError
from qwend.models.blob_store import BlobStore, file_digest
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.gguf_header import ValueType
from qwend.models.header_check import check_gguf
from qwend.models.intake import import_file
from qwend.models.split_join import join
from qwend.models.store import resolve_model
from tests.models.support.gguf_builder import (
    GgufBuilder,
    Value,
    number,
    one_layer_model,
    tiny_model,
)

COUNT = 3


def short(value: int) -> Value:
    return Value(ValueType.UINT16, value)


def whole() -> GgufBuilder:
    """A model of 14 tensors, no two of them alike."""
    model = one_layer_model(8)
    model.fields = tiny_model().fields
    for at, tensor in enumerate(model.tensors.values()):
        tensor.data = bytes((at * 7 + index) % 251 for index in range(len(tensor.data)))
    return model


def split(model: GgufBuilder, count: int = COUNT) -> list[GgufBuilder]:
    """As llama-gguf-split does: the first has the fields, each has its share of the tensors."""
    names = list(model.tensors)
    parts = []
    for at in range(count):
        part = GgufBuilder(fields=deepcopy(model.fields) if at == 0 else {})
        part.fields |= {
            "split.no": short(at),
            "split.count": short(count),
            "split.tensors.count": Value(ValueType.INT32, len(names)),
        }
        share = names[at * len(names) // count : (at + 1) * len(names) // count]
        part.tensors = {name: model.tensors[name] for name in share}
        parts.append(part)
    return parts


def written(parts: list[GgufBuilder], directory: Path) -> list[Path]:
    paths = []
    for at, part in enumerate(parts):
        path = directory / f"m-{at + 1:05d}-of-{len(parts):05d}.gguf"
        path.write_bytes(part.build())
        paths.append(path)
    return paths


def joined(paths: list[Path], directory: Path) -> Path:
    target = directory / "joined.gguf"
    with target.open("wb") as file:
        sha256 = join(paths, file, [path.name for path in paths])
    assert sha256 == file_digest(target)
    return target


def tensors(path: Path) -> dict[str, tuple[tuple[int, ...], str, bytes]]:
    data = path.read_bytes()
    with path.open("rb") as file:
        header = read_header(GgufFile(file, len(data)))
    found = {}
    for tensor in header.tensors.values():
        at = header.data_offset + tensor.offset
        found[tensor.name] = (tensor.dims, tensor.type.name, data[at : at + tensor.bytes])
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 14])
def test_the_parts_make_the_very_file_that_was_split(tmp_path: Path, count: int) -> None:
    model = whole()

    path = joined(written(split(model, count), tmp_path), tmp_path)

    assert path.read_bytes() == model.build()
    with path.open("rb") as file:
        assert check_gguf(file, path.stat().st_size).split_count == 1


def test_a_first_part_without_tensors_is_a_part(tmp_path: Path) -> None:
    model = whole()
    parts = split(model, 2)
    parts[1].tensors = parts[0].tensors | parts[1].tensors
    parts[0].tensors = {}

    path = joined(written(parts, tmp_path), tmp_path)

    assert path.read_bytes() == model.build()


def test_another_alignment_is_kept(tmp_path: Path) -> None:
    model = whole()
    model.fields["general.alignment"] = number(64)
    model.alignment = 64
    parts = split(model)
    parts[0].alignment = 64

    path = joined(written(parts, tmp_path), tmp_path)

    assert path.read_bytes() == model.build()


def swap(parts: list[GgufBuilder]) -> None:
    parts[0], parts[1] = parts[1], parts[0]


def miscount(parts: list[GgufBuilder]) -> None:
    parts[2].fields["split.count"] = short(4)


def repeat(parts: list[GgufBuilder]) -> None:
    parts[2].tensors = parts[1].tensors


def leave_out(parts: list[GgufBuilder]) -> None:
    parts[2].tensors = {}


def forget(parts: list[GgufBuilder]) -> None:
    del parts[1].fields["split.no"]


def cut(parts: list[GgufBuilder]) -> None:
    next(iter(parts[2].tensors.values())).data = b""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (swap, "this should be part"),
        (miscount, "there are 3 parts"),
        (repeat, "is in another part already"),
        (leave_out, "14 tensors were split, and the parts have"),
        (forget, "the header has no 'split.no'"),
        (cut, "m-00003-of-00003.gguf"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, wrong: Callable[[list[GgufBuilder]], None], said: str
) -> None:
    parts = split(whole())
    wrong(parts)

    with pytest.raises(ModelError, match=said):
        joined(written(parts, tmp_path), tmp_path)


def test_an_import_takes_all_parts_and_gives_them_one_name(tmp_path: Path) -> None:
    model = whole()
    paths = written(split(model), tmp_path)
    store = BlobStore(tmp_path / "models")

    manifest = import_file(store, str(paths[1]))

    assert manifest.name == "m"
    assert manifest.parts == tuple(file_digest(path) for path in paths)
    assert resolve_model("m", store.models_dir).path.read_bytes() == model.build()
    assert list(store.parts.iterdir()) == []


def test_an_import_with_a_missing_part_leaves_nothing(tmp_path: Path) -> None:
    paths = written(split(whole()), tmp_path)
    paths[2].unlink()
    store = BlobStore(tmp_path / "models")

    with pytest.raises(ModelError, match=r"m-00003-of-00003\.gguf is not there"):
        import_file(store, str(paths[0]))
    assert store.names() == []
    assert list(store.parts.iterdir()) == []


def test_an_import_of_what_is_no_model_leaves_nothing(tmp_path: Path) -> None:
    (path := tmp_path / "m.gguf").write_bytes(b"GGUF but not one")
    store = BlobStore(tmp_path / "models")

    with pytest.raises(ModelError, match="it was not added to the store"):
        import_file(store, str(path))
    assert store.names() == []
    assert list(store.parts.iterdir()) == []


def test_an_import_is_compared_with_the_digest_that_was_given(tmp_path: Path) -> None:
    (path := tmp_path / "m.gguf").write_bytes(tiny_model().build())
    store = BlobStore(tmp_path / "models")

    with pytest.raises(FetchError, match="and not " + "a" * 64):
        import_file(store, str(path), sha256="a" * 64)
    assert import_file(store, str(path), sha256=file_digest(path)).name == "m"


def test_a_name_that_cannot_be_one_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    (path := tmp_path / "my model.gguf").write_bytes(tiny_model().build())
    store = BlobStore(tmp_path / "models")

    with pytest.raises(ConfigError, match="--name"):
        import_file(store, str(path))
    assert import_file(store, str(path), name="mine").name == "mine"
