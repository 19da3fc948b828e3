"""A host made of files: what a test puts there is all there is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.host.root import HostRoot


class FakeHost:
    """A directory that stands for "/", and the HostRoot that reads it."""

    def __init__(self, path: Path) -> None:
        self.root = HostRoot(path)

    def put(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            place = self.root.at(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)

    def text(self, name: str) -> str:
        return self.root.at(name).read_text()


@pytest.fixture
def fake(tmp_path: Path) -> FakeHost:
    (tmp_path / "root").mkdir()
    return FakeHost(tmp_path / "root")


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask-{mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)
