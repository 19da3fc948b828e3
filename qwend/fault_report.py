"""A fault of ours in words: where it happened, without what it happened to.

The text of an exception quotes values (`KeyError: 'what a client wrote'`), and what clients write
belongs in no log. The texts of our own errors and of the system's are kept: we know what they say.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from qwend.errors import QwendError

# Whose `str` names files and system calls, or nothing.
_PLAIN = (QwendError, OSError, MemoryError, RecursionError, KeyboardInterrupt, SystemExit)


def fault_report(error: BaseException) -> str:
    """Like Python's own traceback, and of the same order: causes first."""
    return "".join(_lines(error, set())).rstrip("\n")


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _lines(cause, seen)
        yield "\nand then:\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    name = type(error).__qualname__
    text = str(error) if isinstance(error, _PLAIN) else "(its text is left out: it may quote)"
    yield f"{name}: {text}\n"
