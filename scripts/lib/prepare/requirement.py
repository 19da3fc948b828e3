"""What pyproject.toml asks of llama-cpp-python, and whether a version satisfies it.

Rule 1: pyproject.toml is the only place where the range stands.
Rule 2: this file knows only plain releases (1.2.3), which is all the range is made of; pip judges
the rest of the requirements.
"""

from __future__ import annotations

import operator
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from problem import Problem

PACKAGE = "llama-cpp-python"

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def llama_requirement(root: Path) -> str:
    """Return the requirement as pyproject.toml has it, such as llama-cpp-python>=0.3.36,<0.3.37."""
    document = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    for requirement in document["project"]["dependencies"]:
        if re.match(rf"{PACKAGE}\s*[<>=!]", requirement):
            return str(requirement)
    raise Problem(f"{root}/pyproject.toml does not require {PACKAGE}")


def satisfies(version: str, requirement: str) -> bool:
    """Is this release within the requirement's range?"""
    release = _release(version)
    return release is not None and all(
        _COMPARE[sign](_padded(release), _padded(_release(bound) or ()))
        for sign, bound in re.findall(r"([<>=!]=|[<>])\s*([0-9.]+)", requirement)
    )


def _release(version: str) -> tuple[int, ...] | None:
    # A local label (0.3.36+cu121) names a build of the same release.
    found = re.fullmatch(r"(\d+(?:\.\d+)*)(?:\+.*)?", version)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def _padded(release: tuple[int, ...]) -> tuple[int, ...]:
    # 0.4 and 0.4.0 are the same release.
    return release + (0,) * (8 - len(release))
