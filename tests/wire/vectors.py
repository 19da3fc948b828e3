"""The test vectors of docs/protocol.md, read from the page itself.

Rule 1: the page has them once, and every test that needs a sample of each message takes it here.
Rule 2: this file does not know what they mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"


@dataclass(frozen=True, slots=True)
class Vector:
    """fields: the message as a map. from_client: which side sends it."""

    name: str
    from_client: bool
    fields: dict[str, Any]
    frame: bytes

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Refused:
    """A frame that the daemon answers with an error of this code."""

    name: str
    code: str
    frame: bytes

    def __str__(self) -> str:
        return f"{self.code}: {self.name}"


def vectors() -> list[Vector]:
    found = []
    for first, message, frame in _blocks("vectors"):
        direction, _, name = first.partition(" ")
        fields = json.loads(message)
        if "logit_bias" in fields:
            fields["logit_bias"] = {int(key): bias for key, bias in fields["logit_bias"].items()}
        found.append(Vector(name, direction == ">", fields, bytes.fromhex(frame)))
    return found


def refused() -> list[Refused]:
    found = []
    for first, frame in _blocks("refused"):
        _, code, name = first.split(" ", 2)
        found.append(Refused(name, code, bytes.fromhex(frame)))
    return found


def _blocks(fence: str) -> list[list[str]]:
    page = PAGE.read_text(encoding="utf-8")
    body = page.split(f"\n```{fence}\n", 1)[1].split("\n```", 1)[0]
    return [block.splitlines() for block in body.split("\n\n")]
