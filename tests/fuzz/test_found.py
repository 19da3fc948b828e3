"""Every input that once broke a promise is tried again, and every seed gets through."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.catalogue import FOUND, NAMES, load

CASES = [(name, path) for name in NAMES for path in load(name).found]


@pytest.mark.row("A2")
@pytest.mark.parametrize(("name", "path"), CASES, ids=lambda one: getattr(one, "name", one))
def test_what_was_found_once_stays_mended(name: str, path: Path) -> None:
    load(name).run(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_what_fuzzing_starts_from_keeps_every_promise(name: str) -> None:
    target = load(name)
    target.run(b"")
    for seed in target.seeds():
        target.run(seed)


def test_every_found_input_belongs_to_a_target() -> None:
    folders = [path.name for path in FOUND.iterdir() if path.is_dir()]
    assert set(folders) <= set(NAMES)
