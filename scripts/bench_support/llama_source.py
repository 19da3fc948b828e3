"""The llama.cpp source that the installed llama-cpp-python was built from.

It comes from that package's own source distribution, so that the bench model's tokenizer and the
peers are of exactly the llama.cpp that qwend runs. This file does not know what is built from it.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from .cache import cache_dir

PACKAGE = "llama-cpp-python"
QWEN_VOCABULARY = "models/ggml-vocab-qwen2.gguf"


class SourceError(Exception):
    """The source could not be had; the text says what to do."""


def llama_version() -> str:
    """The version of the llama-cpp-python that is installed for this interpreter."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SourceError(
            f"{PACKAGE} is not installed for {sys.executable}; "
            "run this script with the interpreter of an environment that has qwend installed"
        ) from None


def llama_source(cache: Path | None = None) -> Path:
    """The unpacked llama.cpp tree; fetched from the package index the first time (~80 MB)."""
    cache = cache or cache_dir()
    version = llama_version()
    tree = cache / f"llama.cpp-of-{PACKAGE}-{version}"
    if tree.is_dir():
        return tree
    print(f"fetching the source of {PACKAGE} {version}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".source-") as scratch:
        sdist = _download(version, Path(scratch))
        unpacked = _unpack(sdist, Path(scratch) / "unpacked")
        unpacked.rename(tree)
    return tree


def qwen_vocabulary(cache: Path | None = None) -> Path:
    """The real Qwen2 vocabulary of llama.cpp's tests; its .inp and .out files lie beside it."""
    cache = cache or cache_dir()
    kept = cache / "vocabulary" / Path(QWEN_VOCABULARY).name
    names = ["", ".inp", ".out"]
    if all(Path(f"{kept}{suffix}").is_file() for suffix in names):
        return kept
    original = llama_source(cache) / QWEN_VOCABULARY
    kept.parent.mkdir(exist_ok=True)
    for suffix in names:
        shutil.copyfile(f"{original}{suffix}", f"{kept}{suffix}")
    return kept


def _download(version: str, into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--dest", str(into), f"{PACKAGE}=={version}"]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise SourceError(
            f"pip could not download the source of {PACKAGE} {version} (see above); "
            "check that the package index can be reached"
        )
    found = list(into.glob("*.tar.gz"))
    if len(found) != 1:
        raise SourceError(f"expected one source archive in {into}, found {len(found)}")
    return found[0]


def _unpack(sdist: Path, into: Path) -> Path:
    """Only vendor/llama.cpp: the rest of the archive is the Python package itself."""
    with tarfile.open(sdist) as archive:
        members = [m for m in archive if "/vendor/llama.cpp/" in f"{m.name}/"]
        # Debian 12's Python 3.11.2 does not know `filter` yet (3.11.4 on); what pip downloaded has
        # the hash that the index gave for it.
        safely: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(into, members=members, **safely)
    trees = list(into.glob("*/vendor/llama.cpp"))
    if len(trees) != 1:
        raise SourceError(f"{sdist.name} holds no vendor/llama.cpp; was it laid out anew?")
    return trees[0]
