"""What one check found out: how it is, why that matters, and the command that would mend it.

Rule 1: an `ok` needs no reason and no remedy; everything else has at least one of them.
Rule 2: this file does not know what is checked, nor how a finding is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How much it matters. Only `wrong` makes the command fail."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing to do."""
    WARN = "warn"
    """It answers, but less well than it could."""
    WRONG = "wrong"
    """It does not answer, or not you, or not for long."""


@dataclass(frozen=True, slots=True)
class Finding:
    """name: one word, of the subject. what: the fact, one line. mend: a command, or what to do.

    Several steps are several lines of `mend`, so that a command can be copied whole.
    """

    name: str
    level: Level
    what: str
    why: str = ""
    mend: str = ""


def ok(name: str, what: str) -> Finding:
    return Finding(name, Level.OK, what)


def note(name: str, what: str, why: str = "", mend: str = "") -> Finding:
    return Finding(name, Level.NOTE, what, why, mend)


def warn(name: str, what: str, why: str = "", mend: str = "") -> Finding:
    return Finding(name, Level.WARN, what, why, mend)


def wrong(name: str, what: str, why: str = "", mend: str = "") -> Finding:
    return Finding(name, Level.WRONG, what, why, mend)
