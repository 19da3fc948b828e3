from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts_quickstart.clone import Clone, make_clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """A fresh clone: no .venv, an empty cache."""
    return make_clone(tmp_path, "clone")


@pytest.fixture
def ready_clone(clone: Clone) -> Clone:
    """A clone whose .venv is complete, with stubs of qwend and qwenctl."""
    clone.add_stubs()
    return clone
