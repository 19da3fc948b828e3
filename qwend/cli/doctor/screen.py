"""The findings as one screen: a line each, and below what is not well the reason and the remedy.

Rule 1: what was found fine is one line and no more, so that the rest stands out.
Rule 2: this file does not know what was checked.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence

from qwend.cli.doctor.finding import Finding, Level

COLOURS = {Level.OK: "green", Level.NOTE: "cyan", Level.WARN: "yellow", Level.WRONG: "red"}
_LEVEL, _NAME = 6, 10
_INDENT = " " * (_LEVEL + _NAME)
_MEND = "-> "

Paint = Callable[[str, Level], str]


def screen(
    title: str, findings: Sequence[Finding], columns: int, paint: Paint = lambda text, _: text
) -> Iterator[str]:
    """Lines from top to bottom. paint: gives a level's word its colour, where there are colours."""
    yield from textwrap.wrap(title, columns)
    yield ""
    for finding in findings:
        word = paint(f"{finding.level:<{_LEVEL}}", finding.level)
        head, *rest = _wrapped(finding.what, columns) or [""]
        yield f"{word}{finding.name:<{_NAME}}{head}"
        for line in (*rest, *_wrapped(finding.why, columns)):
            yield _INDENT + line
        yield from _remedy(finding.mend, columns)
    yield ""
    yield verdict(findings)


def verdict(findings: Sequence[Finding]) -> str:
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    warn = sum(finding.level is Level.WARN for finding in findings)
    better = f"{warn} {'thing' if warn == 1 else 'things'} could be better"
    if wrong:
        things = f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong"
        return f"{things}{f', {better}' if warn else ''}."
    return f"Nothing is wrong; {better}." if warn else "All is well."


def _remedy(text: str, columns: int) -> Iterator[str]:
    for step in text.split("\n"):
        for number, line in enumerate(_wrapped(step, columns - len(_MEND))):
            yield f"{_INDENT}{' ' * len(_MEND) if number else _MEND}{line}"


def _wrapped(text: str, columns: int) -> list[str]:
    width = max(20, columns - len(_INDENT))
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
