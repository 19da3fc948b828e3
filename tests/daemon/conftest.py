"""Places for sockets, short enough for the kernel's 107 bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qw") as name:
        Path(name).chmod(0o755)  # tests may look at it as another user
        yield Path(name)


@pytest.fixture
def socket_path(folder: Path) -> Path:
    return folder / "s"
