"""Models for the tests of the real engine: a tiny random one always, the built-in one if there."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from qwend.engine.llama.backend import LlamaBackend
from tests.support.tiny_model import opened, write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def backend(tiny_model: Path) -> Iterator[LlamaBackend]:
    """512 cells, 32 rows, 4 sequences."""
    with opened(tiny_model) as backend:
        yield backend


@pytest.fixture(scope="session")
def guide_model() -> Path:
    path = Path(str(files("qwend.models") / "guide.gguf"))
    if not path.exists():
        pytest.skip("the built-in model is not there yet")
    return path


@pytest.fixture
def guide(guide_model: Path) -> Iterator[LlamaBackend]:
    with opened(guide_model, cells=1024, ubatch=64) as backend:
        yield backend
