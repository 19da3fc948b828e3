"""What a hub says of its files is read, and never believed: no path, no size, no JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.errors import FetchError
from tests.models.pull.puller import Puller
from tests.models.pull.stub_hub import StubHub, _Handler, digest, model_bytes, stub_hub

DATA = model_bytes()
SHA = digest(DATA)


@pytest.fixture
def hub() -> Iterator[StubHub]:
    with stub_hub(model=DATA) as hub:
        # The header that would make the second question needless.
        hub.on_head = lambda request: request.reply(200)
        yield hub


@pytest.fixture
def puller(hub: StubHub, tmp_path: Path) -> Puller:
    return Puller(hub, tmp_path / "models", attempts=2)


def entry(**fields: Any) -> dict[str, Any]:
    right = {"path": "model.gguf", "size": len(DATA), "lfs": {"oid": SHA, "size": len(DATA)}}
    return {"type": "file", **right, **fields}


BAD: list[Any] = [
    None,
    7,
    "x",
    [],
    {},
    [[]],
    [None],
    [{"path": None}],
    [{"path": ["model.gguf"]}],
    [entry(lfs="no map")],
    [entry(lfs={"oid": "../../../etc/passwd"})],
    [entry(lfs={"oid": "G" * 64})],
    [entry(lfs={"oid": SHA + "\n"})],
    [entry(lfs={"oid": ["a" * 64]})],
    [entry(lfs={})],
    [entry(lfs=None)],
    [entry(path="../model.gguf"), entry(path="/model.gguf"), entry(path="model.gguf/")],
]


@pytest.mark.row("I4")
@pytest.mark.parametrize("answer", BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("source", ["hub", "modelscope"])
def test_a_list_of_files_that_is_none_publishes_nothing(
    hub: StubHub, puller: Puller, tmp_path: Path, monkeypatch: Any, answer: Any, source: str
) -> None:
    whole = answer if source == "hub" else {"Data": {"Files": scoped(answer)}}
    monkeypatch.setattr(_Handler, "_json", lambda handler, _: plain(handler, whole))

    with pytest.raises(FetchError):
        puller.pull(source=source)
    assert puller.published() == []
    assert hub.ranges() == []
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def scoped(answer: Any) -> Any:
    """The same in ModelScope's words."""
    if not isinstance(answer, list):
        return answer
    return [
        {"Path": each.get("path"), "Sha256": (each.get("lfs") or {}).get("oid")}
        if isinstance(each, dict) and isinstance(each.get("lfs"), dict | None)
        else each
        for each in answer
    ]


def plain(handler: _Handler, value: Any) -> None:
    handler._plain(200, json.dumps(value).encode())


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[" * 100_000, b"{" * 5, b"<html>", b"9" * 10_000, b"[1e999]"]
)
def test_a_list_of_files_that_is_no_json_publishes_nothing(
    puller: Puller, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(_Handler, "_json", lambda handler, _: handler._plain(200, body))

    with pytest.raises(FetchError):
        puller.pull()
    assert puller.published() == []


def test_a_list_of_files_without_end_is_not_read_to_it(
    puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Handler, "_json", lambda handler, _: handler._plain(200, bytes(5 << 20)))

    with pytest.raises(FetchError, match="answers with more than 4194304 bytes"):
        puller.pull()


@pytest.mark.parametrize("size", [-1, 0, 1.5, "9", 2**80, True, None])
def test_a_size_that_is_none_is_not_believed(
    puller: Puller, monkeypatch: pytest.MonkeyPatch, size: Any
) -> None:
    answer = [entry(size=size, lfs={"oid": SHA, "size": size})]
    monkeypatch.setattr(_Handler, "_json", lambda handler, _: plain(handler, answer))

    if size in (2**80, True):  # numbers, and wrong ones
        with pytest.raises(FetchError):
            puller.pull()
        assert puller.published() == []
    else:
        puller.pull()
        assert puller.published() == [DATA]


@pytest.mark.row("I4")
@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "..\\evil", "evil\0", "%2e%2e%2fevil", "~/evil"]
)
def test_content_disposition_names_nothing(
    hub: StubHub, puller: Puller, tmp_path: Path, name: str
) -> None:
    header = {"Content-Disposition": f'attachment; filename="{name}"'.replace("\0", "%00")}
    hub.on_file = lambda request: request.serve(headers=header)

    puller.pull()

    assert puller.published() == [DATA]
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path in files if "evil" in str(path)]
    assert {path.name for path in files} == {SHA, "model.json", "lock"}
