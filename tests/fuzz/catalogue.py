"""What is fuzzed: for each name a function that takes any bytes and must not mind them.

Rule 1: a target raises only where the code under it broke its promise; the exceptions that the code
declares are caught in the target, and what it says with them is checked there.
Rule 2: a target does not know who makes the bytes: hypothesis, atheris, `scripts/fuzz` or a file of
`found/` do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FOUND = Path(__file__).with_name("found")

NAMES = ("frame", "connection", "request", "settings", "gguf", "snapshot")
"""Each is a module NAME_target with `run(data)` and `seeds()`."""


@dataclass(frozen=True, slots=True)
class Target:
    """seeds: inputs that get far, to change from."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]

    @property
    def found(self) -> list[Path]:
        """The inputs that once broke a promise, oldest first."""
        return sorted((FOUND / self.name).glob("[0-9]*"))


def load(name: str) -> Target:
    """Import one target. Here and not above: a fuzzer instruments what is imported now."""
    module = importlib.import_module(f"tests.fuzz.{name}_target")
    return Target(name, module.run, module.seeds)
