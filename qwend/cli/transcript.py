"""A conversation as a file: Markdown for people, JSON for programs.

Rule 1: what a person said and what a model said is written as it is; a file is never overwritten.
Rule 2: this file does not know where conversations come from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Said(Protocol):
    @property
    def role(self) -> str: ...

    @property
    def content(self) -> str: ...


def as_markdown(messages: Iterable[Said]) -> str:
    return "\n\n".join(f"**{each.role}**\n\n{each.content}" for each in messages) + "\n"


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def is_json(path: Path) -> bool:
    """By its name: JSON for *.json, else Markdown."""
    return path.suffix == ".json"


def write_new(path: Path, text: str) -> None:
    """Write a file for the owner's eyes only. Raises: OSError, FileExistsError if it is there."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
