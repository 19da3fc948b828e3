from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from qwend.errors import ConfigError, HostError, ModelError
from qwend.models.blob_store import STALE_PART_S, BlobStore, file_digest
from qwend.models.disk import TEMPORARY
from qwend.models.manifest import Manifest
from qwend.models.pull.part import Part
from qwend.models.reference import NAME
from qwend.models.store import installed_models, resolve_model
from tests.models.pull.stub_hub import digest

DATA, OTHER = b"one model", b"another one"

# Row I4: what a registry, a manifest or a person may give for a name or a digest.
HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "//",
    "../x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../../x",
    "blobs/../../x",
    "..%2f..%2fx",
    "%2e%2e%2fx",
    "..\\..\\x",
    "C:\\x",
    "x\0y",
    "x\ny",
    "x\r\ny",
    "~root/x",
    "$(id)",
    "`id`",
    ";id",
    "|id",
    "-rf",
    "\u202egnp.exe",
    "\uff0e\uff0e\uff0fx",
    "ａ" * 64,
    "A" * 64,
    "g" * 64,
    "a" * 63,
    "a" * 65,
    "a" * 64 + "\n",
    " " + "a" * 63,
    "sha256:" + "a" * 64,
    "sha256-" + "a" * 64,
    "0x" + "a" * 62,
    "a" * 32 + "/" + "a" * 31,
    "../" + "a" * 61,
    "a" * 10_000,
    "\ud800",
    *(
        f"{up * '../'}{place}"
        for up in range(1, 9)
        for place in ("x", "tmp/x", ".ssh/authorized_keys")
    ),
    *(f"x{chr(code)}y" for code in range(32)),
    *(f"{chr(code)}..{chr(code)}x" for code in (0x2F, 0x5C, 0x2044, 0x2215, 0x29F8, 0xFF0F)),
    *(name * repeat for name in ("../", "..\\", "./", "//") for repeat in range(2, 30)),
]


def test_there_are_two_hundred_hostile_names() -> None:
    assert len(set(HOSTILE)) >= 200


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path / "models")
    store.prepare()
    return store


def add(store: BlobStore, name: str, data: bytes = DATA) -> Manifest:
    file = store.parts / f"{TEMPORARY}{name}"
    file.write_bytes(data)
    manifest = Manifest(name, digest(data), len(data), "a test", 1.0, quantization="Q4_0")
    store.publish(manifest, file)
    return manifest


def held_part(store: BlobStore, sha256: str) -> Part:
    part = Part.open(store.parts, sha256)
    assert part is not None
    return part


def everything(directory: Path) -> set[str]:
    return {str(path) for path in directory.rglob("*")}


def test_what_was_published_is_found_by_its_name(store: BlobStore) -> None:
    manifest = add(store, "qwen")

    assert store.manifest("qwen") == manifest
    assert resolve_model("qwen", store.models_dir).path.read_bytes() == DATA
    assert resolve_model("qwen:q4_0", store.models_dir).name == "qwen"
    assert installed_models(store.models_dir) == ["guide", "qwen"]


def test_a_quantization_of_a_name_is_stored_beside_it(store: BlobStore) -> None:
    add(store, "qwen")
    other = replace(add(store, "qwen-q8_0", OTHER), quantization="Q8_0")
    store.publish(other, None)

    assert resolve_model("qwen:Q8_0", store.models_dir).path.read_bytes() == OTHER
    with pytest.raises(ModelError, match="there is no model 'qwen:Q6_K'"):
        resolve_model("qwen:Q6_K", store.models_dir)


def test_a_file_that_somebody_put_there_goes_before(store: BlobStore) -> None:
    add(store, "qwen")
    (store.models_dir / "qwen.gguf").write_bytes(OTHER)

    assert resolve_model("qwen", store.models_dir).path == store.models_dir / "qwen.gguf"
    assert installed_models(store.models_dir) == ["guide", "qwen"]


def test_a_name_whose_file_is_gone_is_told_with_where_it_was_from(store: BlobStore) -> None:
    store.blob_path(add(store, "qwen").sha256).unlink()

    with pytest.raises(ModelError, match=r"the file of qwen is missing: .* again \(a test\)"):
        resolve_model("qwen", store.models_dir)


@pytest.mark.row("I4")
@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_or_digest_writes_nothing_anywhere(
    store: BlobStore, tmp_path: Path, name: str
) -> None:
    before = everything(tmp_path)
    (file := store.parts / f"{TEMPORARY}x").write_bytes(DATA)

    with pytest.raises(ConfigError):
        store.blob_path(name)
    if not NAME.fullmatch(name) or name.startswith("."):  # a digest that is none may be a name
        with pytest.raises(ConfigError):
            store.publish(Manifest(name, digest(DATA), 1, "", 0.0), file)
        with pytest.raises(ConfigError):
            store.remove(name)
        assert store.manifest(name) is None
    with pytest.raises(ConfigError):
        store.publish(Manifest("name", name, 1, "", 0.0), file)

    file.unlink()
    assert everything(tmp_path) == before


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../../etc/passwd"},
        {"sha256": "A" * 64},
        {"sha256": None},
        {"sha256": ["a" * 64]},
        {"name": "other"},
        {"name": "../qwen"},
        {"size_bytes": 0},
        {"size_bytes": -1},
        {"size_bytes": "9"},
        {"size_bytes": True},
        {"format": 2},
        {"format": None},
        {"origin": 7},
        {"added_at": "soon"},
    ],
)
def test_a_manifest_that_was_tampered_with_is_refused(
    store: BlobStore, change: dict[str, object]
) -> None:
    add(store, "qwen")
    path = store.models_dir / "store" / "manifests" / "qwen.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(ModelError, match="cannot be used") as caught:
        resolve_model("qwen", store.models_dir)
    assert caught.value.code == "store_damaged"
    store.remove("qwen")
    assert store.names() == []


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b"[" * 50_000, b"{" * 100, b"9" * 9999]
)
def test_a_manifest_of_nonsense_is_refused(store: BlobStore, data: bytes) -> None:
    (store.models_dir / "store" / "manifests" / "qwen.json").write_bytes(data)

    with pytest.raises(ModelError, match="cannot be used"):
        store.manifest("qwen")
    assert store.manifests() == []


def test_control_characters_of_a_manifest_do_not_reach_a_terminal(store: BlobStore) -> None:
    add(store, "qwen")
    path = store.models_dir / "store" / "manifests" / "qwen.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": "\x1b[2J\nhere"}))

    assert (found := store.manifest("qwen"))
    assert found.origin == "?[2J?here"


def test_a_blob_goes_with_its_last_name(store: BlobStore) -> None:
    add(store, "one")
    add(store, "two")
    blob = store.blob_path(digest(DATA))

    assert store.remove("one") == 0
    assert blob.exists()
    assert store.remove("two") == len(DATA)
    assert not blob.exists()


def test_removing_what_is_not_there_is_said(store: BlobStore) -> None:
    with pytest.raises(ModelError, match="the store has no model 'x'"):
        store.remove("x")


def test_sweeping_removes_what_nobody_names_and_nothing_else(store: BlobStore) -> None:
    add(store, "kept")
    add(store, "old", OTHER)
    (store.models_dir / "store" / "manifests" / "old.json").unlink()
    (store.parts / f"{TEMPORARY}left").write_bytes(b"12345")

    swept = store.sweep()

    assert (swept.files, swept.freed_bytes) == (2, len(OTHER) + 5)
    assert store.has_blob(digest(DATA))
    assert not store.has_blob(digest(OTHER))
    assert store.sweep().files == 0


def test_sweeping_leaves_young_parts_and_those_in_use(store: BlobStore) -> None:
    old, young, held = "a" * 64, "b" * 64, "c" * 64
    for name in (old, young, held):
        with held_part(store, name) as part:
            part.write(b"GGUF")
    now = time.time()
    for path in store.parts.iterdir():
        if not path.name.startswith(young):
            os.utime(path, (now - 2 * STALE_PART_S,) * 2)
    with held_part(store, held):
        for path in store.parts.glob(f"{held}*"):
            os.utime(path, (now - 2 * STALE_PART_S,) * 2)
        assert store.sweep(now).files == 1

    there = {path.name.split(".")[0] for path in store.parts.iterdir()}
    assert there == {young, held}
    assert store.sweep(now + 1, all_parts=True).files == 2


def test_sweeping_a_store_with_a_damaged_manifest_removes_nothing(store: BlobStore) -> None:
    add(store, "qwen")
    (store.models_dir / "store" / "manifests" / "bad.json").write_text("{")

    with pytest.raises(ModelError, match="models rm bad"):
        store.sweep()
    assert store.has_blob(digest(DATA))


def test_a_store_that_is_not_there_is_empty(tmp_path: Path) -> None:
    store = BlobStore(tmp_path / "none")

    assert store.names() == []
    assert store.sweep().files == 0
    assert not (tmp_path / "none").exists()


def test_two_writers_and_a_sweeper_lose_no_name(store: BlobStore) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            store.sweep()

    def write(which: str) -> None:
        for number in range(25):
            file = store.models_dir / "store" / f"{which}{number}"
            file.write_bytes(data := f"{which}{number}".encode())
            manifest = Manifest(f"{which}{number}", digest(data), len(data), "", 0.0)
            store.publish(manifest, file)

    sweeper = threading.Thread(target=sweep)
    writers = [threading.Thread(target=write, args=(which,)) for which in "ab"]
    sweeper.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    sweeper.join()

    assert len(store.names()) == 50
    assert all(store.has_blob(m.sha256, m.size_bytes) for m in store.manifests())


def test_a_blob_cannot_be_written_to_by_accident(store: BlobStore) -> None:
    add(store, "qwen")

    assert store.blob_path(digest(DATA)).stat().st_mode & 0o777 == 0o444


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")

    with pytest.raises(HostError, match="models"):
        BlobStore(tmp_path / "models").prepare()


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (path := tmp_path / "file").write_bytes(bytes(3_000_000))
    told: list[int] = []

    assert file_digest(path, told.append) == digest(bytes(3_000_000))
    assert told[-1] == 3_000_000
