"""The text of a request: the arguments, and standard input where something is piped in.

Rule 1: what cannot be UTF-8 is replaced, never a crash: logs are piped in here.
Rule 2: this file does not know what the text is for.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence

import click

STDIN = "-"


def read_text(arguments: Sequence[str], what: str, *, exact: bool = False) -> str:
    """Return the arguments as one text, and behind it what is piped in.

    With an argument "-" standard input is read even if it is a terminal.
    exact: keep the line feed that most programs put at the end of what they pipe.
    Raises: UsageError naming `what` is missing.
    """
    words = [_clean(argument) for argument in arguments if argument != STDIN]
    piped = _read_stdin() if STDIN in arguments or _is_piped() else ""
    if not exact:
        piped = piped.rstrip("\n")
    text = "\n\n".join(part for part in (" ".join(words), piped) if part)
    if not (text if exact else text.strip()):
        raise click.UsageError(f"Say {what}, as an argument or through a pipe.")
    return text


def _is_piped() -> bool:
    """Does somebody hand us something? /dev/null and a closed stdin are nobody."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _read_stdin() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _clean(argument: str) -> str:
    # Bytes of the command line that are no UTF-8 come as lone surrogates (os.fsdecode).
    return os.fsencode(argument).decode("utf-8", "replace")
