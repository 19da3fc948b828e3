"""What the person says, line by line, without a terminal: a pipe or a file.

Rule 1: a source of questions yields them until its end.
Rule 2: this file does not know what is done with them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Protocol


class Questions(Protocol):
    """Where questions come from."""

    def __iter__(self) -> Iterator[str]: ...


class PipedLines:
    """Each line of standard input is one question."""

    def __iter__(self) -> Iterator[str]:
        for line in sys.stdin.buffer:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
