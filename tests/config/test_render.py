"""`qwenctl config show` prints a valid file that says where each value came from."""

from __future__ import annotations

import tomllib
from dataclasses import asdict
from pathlib import Path

from qwend.config import Config, load_config, render


def test_the_text_is_the_configuration_with_origins(tmp_path: Path) -> None:
    path = tmp_path / "qwend.toml"
    path.write_text("[model]\ncontext = 2048\n")
    text = render(load_config(path, {"QWEND_HOST_AFFINITY": "[1, 3]"}))
    lines = text.splitlines()
    assert lines[0] == f"# file: {path}"
    assert any(line.startswith(f"context = 2048  # {path}: tokens") for line in lines)
    assert any(line.startswith("affinity = [1, 3]  # QWEND_HOST_AFFINITY: ") for line in lines)
    assert any(line.startswith('name = "guide"  # default: ') for line in lines)


def test_the_text_of_the_defaults_holds_every_setting() -> None:
    text = render(load_config(Path("/dev/null"), {}))
    expected = asdict(Config())
    expected["host"]["affinity"] = []
    assert tomllib.loads(text) == expected


def test_no_file_is_said_in_words(tmp_path: Path) -> None:
    loaded = load_config(None, {"CONFIGURATION_DIRECTORY": str(tmp_path)}, euid=0)
    assert render(loaded).startswith("# file: none")


def test_text_with_control_characters_survives() -> None:
    prompt = 'a\tb\nc"\\\x7f\x1b\u0085'
    loaded = load_config(Path("/dev/null"), {"QWEND_CHAT_SYSTEM_PROMPT": prompt})
    assert tomllib.loads(render(loaded))["chat"]["system_prompt"] == prompt


def test_a_file_name_cannot_break_out_of_its_comment(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x7f.toml"
    path.write_text("[model]\ncontext = 2048\n")
    text = render(load_config(path, {}))
    assert tomllib.loads(text)["model"]["context"] == 2048
    assert "a\\nb\\x7f.toml" in text
