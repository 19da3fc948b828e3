"""What a person sees of an error, and of notices beside the answer: one place, on stderr.

Rule 1: stdout carries answers only; an error is one or two sentences, never a traceback.
Rule 2: this file does not know which command runs.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Mapping
from typing import IO

import click

from qwend.errors import QwendError

# Where nothing answers, and the person has a clone rather than an installation.
_CLONE_HINT = "in a clone of qwend, scripts/quickstart starts one just for you"

_SHOWN_WITHOUT_CODE = frozenset({"config", "unreachable", "forbidden", "connection_lost"})


def report(error: QwendError) -> None:
    """Say what went wrong: "qwenctl: message (code)"."""
    say(f"qwenctl: {describe(error)}")


def describe(error: QwendError) -> str:
    """Return the error as a sentence; the code is shown where a program could have read it."""
    text = str(error)
    if error.code == "unreachable":
        return f"{text}; {_CLONE_HINT}"
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        text += f"; try again in {retry_after_s:g} s"
    return text if error.code in _SHOWN_WITHOUT_CODE else f"{text} ({error.code})"


def say(text: str) -> None:
    click.echo(fitted(text, sys.stderr), err=True)


def say_dim(text: str) -> None:
    """A remark that should not compete with the answer."""
    text = fitted(text, sys.stderr)
    click.echo(
        click.style(text, dim=True) if is_coloured(sys.stderr, os.environ) else text, err=True
    )


def fitted(text: str, stream: IO[str]) -> str:
    """On a terminal, break lines between words; elsewhere a message stays one line."""
    if not stream.isatty():
        return text
    columns = shutil.get_terminal_size().columns - 1
    return "\n".join(
        textwrap.fill(line, columns, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


def is_coloured(stream: IO[str], environ: Mapping[str, str]) -> bool:
    """Colour only where a person looks who did not refuse it (https://no-color.org)."""
    refused = environ.get("NO_COLOR", "") or environ.get("TERM") == "dumb"
    return stream.isatty() and not refused
