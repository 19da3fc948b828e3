from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from scripts.bench_support import llama_source
from scripts.bench_support.llama_source import QWEN_VOCABULARY, SourceError

PREFIX = "llama_cpp_python-9.9.9"


def sdist(target: Path, names: list[str]) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        for name in names:
            entry = tarfile.TarInfo(f"{PREFIX}/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    return target


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A package index with one source distribution in it; returns what was asked for."""
    asked: list[str] = []

    def download(version: str, into: Path) -> Path:
        asked.append(version)
        suffixes = ["", ".inp", ".out"]
        vocabulary = [f"vendor/llama.cpp/{QWEN_VOCABULARY}{suffix}" for suffix in suffixes]
        return sdist(
            into / "s.tar.gz", ["setup.py", "vendor/llama.cpp/CMakeLists.txt", *vocabulary]
        )

    monkeypatch.setattr(llama_source, "_download", download)
    monkeypatch.setattr(llama_source, "llama_version", lambda: "9.9.9")
    return asked


def test_the_source_is_fetched_once_and_only_llama_cpp_is_kept(
    tmp_path: Path, index: list[str]
) -> None:
    tree = llama_source.llama_source(tmp_path)
    assert llama_source.llama_source(tmp_path) == tree
    assert index == ["9.9.9"]
    assert (tree / "CMakeLists.txt").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [tree.name]


def test_the_vocabulary_is_kept_with_its_texts(tmp_path: Path, index: list[str]) -> None:
    vocabulary = llama_source.qwen_vocabulary(tmp_path)
    for suffix in ("", ".inp", ".out"):
        assert Path(f"{vocabulary}{suffix}").read_text().endswith(f"qwen2.gguf{suffix}")
    Path(f"{vocabulary}.out").unlink()
    llama_source.qwen_vocabulary(tmp_path)
    assert Path(f"{vocabulary}.out").is_file()
    assert len(index) == 1


def test_an_archive_laid_out_anew_is_told(
    tmp_path: Path, index: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        llama_source, "_download", lambda version, into: sdist(into / "s.tar.gz", ["src/x"])
    )
    with pytest.raises(SourceError, match=r"no vendor/llama\.cpp"):
        llama_source.llama_source(tmp_path)
    assert list(tmp_path.iterdir()) == []
