"""The name of the model in a configuration that somebody has written by hand."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIB = Path(__file__).resolve().parents[2] / "scripts" / "lib"
FILE = Path("/etc/qwend/qwend.toml")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(LIB / "prepare"))
    monkeypatch.syspath_prepend(str(LIB / "install"))
    module: Any = importlib.import_module("model")
    yield module.configured
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[model]\nname = "q"\n'),
        ("# mine\n", '# mine\n\n[model]\nname = "q"\n'),
        ('[model]\nname = "old" # why\ncontext = 64\n', '[model]\nname = "q"\ncontext = 64\n'),
        ("[model]\ncontext = 64\n", '[model]\nname = "q"\ncontext = 64\n'),
        ("[model]\n[chat]\n", '[model]\nname = "q"\n[chat]\n'),
        (
            "[model] # big\n  context = 64\n  name='o'\n",
            '[model] # big\n  context = 64\n  name = "q"\n',
        ),
        ('[x]\nname = "y"\n', '[x]\nname = "y"\n\n[model]\nname = "q"\n'),
    ],
)
def test_only_the_name_is_changed(configured: Callable[..., str], before: str, after: str) -> None:
    assert configured(before, "q", FILE) == after
    assert configured(after, "q", FILE) == after


def test_a_name_in_another_table_is_left(configured: Callable[..., str]) -> None:
    text = '[model]\ncontext = 64\n[other]\nname = "mine"\n'

    changed = tomllib.loads(configured(text, "q", FILE))

    assert changed == {"model": {"context": 64, "name": "q"}, "other": {"name": "mine"}}


@pytest.mark.parametrize("text", ['model = {name = "o"}\n', "model = 3\n", 'model.name = "o"\n'])
def test_what_is_too_unusual_is_told_and_left(configured: Callable[..., str], text: str) -> None:
    with pytest.raises(Exception, match='write name = "q" under'):
        configured(text, "q", FILE)


def test_a_broken_file_is_named(configured: Callable[..., str]) -> None:
    with pytest.raises(Exception, match=r"qwend\.toml is no TOML"):
        configured("[model\n", "q", FILE)


def test_the_guide_needs_no_name(configured: Callable[..., str]) -> None:
    assert configured("# mine\n", "guide", FILE) == "# mine\n"
