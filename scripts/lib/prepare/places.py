"""Where the scripts put things: the environment in the clone, wheels and logs in a cache.

Rule 1: nothing is written outside the clone's .venv, this cache, and the temporary directory.
Rule 2: this file does not know what is kept there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from problem import Problem


@dataclass(frozen=True, slots=True)
class Places:
    root: Path
    cache: Path

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def log(self) -> Path:
        return self.cache / "log"

    @property
    def wheels(self) -> Path:
        return self.cache / "wheels"


def find_places(root: Path, environ: Mapping[str, str]) -> Places:
    """Return the places for this clone; the cache exists and can be written to.

    Raises: Problem if not even the clone can be written to.
    """
    refused: list[str] = []
    for candidate in _caches(root, environ):
        try:
            candidate.mkdir(parents=True, exist_ok=True)
            # Only a file tells: the mode bits of a read-only mount look writable.
            with tempfile.TemporaryFile(dir=candidate):
                return Places(root, candidate)
        except OSError as error:
            refused.append(f"{candidate}: {error.strerror}")
    raise Problem(
        "There is no place for what must be built. Tried:\n  "
        + "\n  ".join(refused)
        + "\nName one that can be written to: XDG_CACHE_HOME=/some/directory"
    )


def _caches(root: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    named = environ.get("XDG_CACHE_HOME", "")
    home = environ.get("HOME", "")
    if os.path.isabs(named):
        yield Path(named) / "qwend"
    elif os.path.isabs(home) and os.path.isdir(home):
        # A home that does not exist (a service account) is not ours to create.
        yield Path(home) / ".cache" / "qwend"
    yield root / ".cache" / "qwend"
