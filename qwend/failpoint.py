"""Failpoints: places where a test makes this program fail, as QWEND_FAIL says.

Rule 1: while nothing is set, reaching a point looks at an empty table and no more; no point lies
within a decode step.
Rule 2: the environment that a process was started with is the only way in: neither a file nor
anything that comes over the socket can set a point.
Rule 3: this file does not know what the place of a point makes of the error.

    QWEND_FAIL = POINT:TERM[->TERM]...[;POINT:TERM...]...
    TERM       = [PERCENT%][COUNT*]ACTION[(ARGUMENT)]

The grammar of FreeBSD's fail(9), with the actions that containerd's failpoints have. Each time a
point is reached its terms are looked at in order, and the first whose count is not used up and
whose dice agree is done. `snapshot.write:3*off->1*error(ENOSPC)` fails the fourth write, once.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from qwend.errors import ConfigError

VARIABLE = "QWEND_FAIL"

# A point is reached before what it is named after is done.
POINTS: Mapping[str, str] = {
    "snapshot.write": "each piece of a snapshot's temporary file",
    "snapshot.fsync": "the temporary file to the disk",
    "snapshot.rename": "to its name",
    "snapshot.fsync_directory": "its name to the disk",
    "snapshot.unlink": "of a snapshot, or of a temporary file",
    "calibration.write": "what a start has measured",
    "calibration.rename": "to its name",
    "warm_copy.write": "each 4 MiB of the model's copy",
    "warm_copy.rename": "to its name",
    "warm_index.write": "which file the copy is of",
    "governor_record.write": "what the governors were before",
    "conversation.commit": "a turn of a session, or another change of one",
    "engine.start": "the engine's process, in the front",
    "engine.load": "the model, in the engine",
    "engine.send": "a message to the front, after a step",
    "engine.receive": "messages from the front, before a step",
    "front.send": "messages to the engine",
    "front.receive": "messages from the engine",
}


class Panic(RuntimeError):
    """What `panic` raises: a fault that nobody has foreseen, and nobody catches."""


@dataclass(slots=True)
class _Term:
    """left: how often it is still done; None: always. percent: how likely it is done at all."""

    act: Callable[[str], None]
    left: int | None
    percent: float


@dataclass(slots=True)
class _Point:
    """Reached from any thread."""

    name: str
    terms: list[_Term]
    dice: Callable[[], float]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def chosen(self) -> Callable[[str], None] | None:
        with self.lock:
            for term in self.terms:
                if term.left == 0 or self.dice() * 100 >= term.percent:
                    continue
                if term.left is not None:
                    term.left -= 1
                return term.act
        return None


# The one table of this process: filled before its threads begin, only looked at after.
_set: dict[str, _Point] = {}


def reach(name: str) -> None:
    """Do what was set for this point. Raises: OSError for `error`, Panic for `panic`."""
    if _set and name in _set:
        act = _set[name].chosen()
        if act is not None:
            act(name)


def set_points(
    environ: Mapping[str, str], dice: Callable[[], float] | None = None
) -> tuple[str, ...]:
    """Set what the environment asks for and nothing else; returns as `in_force`.

    dice: 0 <= x < 1. Raises: ConfigError that says where the expression is wrong.
    """
    expression = environ.get(VARIABLE, "")
    _set.clear()
    if expression:
        import random  # 5 ms that no other start pays

        _set.update(_Parser(expression, dice or random.random).points())
    return in_force()


def in_force() -> tuple[str, ...]:
    """In words, for the log and the status, that this process fails on purpose; or nothing."""
    if not _set:
        return ()
    return (f"{VARIABLE} is set, for a test: it fails on purpose at {', '.join(sorted(_set))}",)


def _error(argument: str) -> Callable[[str], None]:
    """A name of errno(3), or a text, which is then an EIO."""
    number = errno.EIO
    said = argument
    if re.fullmatch(r"E[A-Z0-9]+", argument):
        if not hasattr(errno, argument):
            raise ValueError(f"{argument} is no name of errno(3)")
        number = getattr(errno, argument)
        said = os.strerror(number)

    def act(point: str) -> None:
        raise OSError(number, f"{said} (failpoint {point})")

    return act


def _delay(argument: str) -> Callable[[str], None]:
    seconds = _whole_number(argument, "of milliseconds") / 1000
    return lambda point: time.sleep(seconds)


def _exit(argument: str) -> Callable[[str], None]:
    code = _whole_number(argument, "from 0 to 255")
    return lambda point: os._exit(code)


def _kill(argument: str) -> Callable[[str], None]:
    name = argument if argument.startswith("SIG") else f"SIG{argument}"
    if name not in signal.Signals.__members__:
        raise ValueError(f"{argument} is no signal")
    number = signal.Signals[name]
    return lambda point: os.kill(os.getpid(), number)


def _panic(argument: str) -> Callable[[str], None]:
    def act(point: str) -> None:
        raise Panic(argument or f"failpoint {point}")

    return act


def _print(argument: str) -> Callable[[str], None]:
    def act(point: str) -> None:
        sys.stderr.write(f"failpoint {point} was reached{argument and ': '}{argument}\n")

    return act


def _whole_number(argument: str, what: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", argument):
        raise ValueError(f"give a whole number {what}")
    return int(argument)


def _off(argument: str) -> Callable[[str], None]:
    if argument:
        raise ValueError("off takes no argument")
    return lambda point: None


# Name -> the argument where none is given, and what makes the deed of it.
_ACTIONS: Mapping[str, tuple[str, Callable[[str], Callable[[str], None]]]] = {
    "off": ("", _off),
    "error": ("EIO", _error),
    "delay": ("", _delay),
    "exit": ("1", _exit),
    "kill": ("SIGKILL", _kill),
    "panic": ("", _panic),
    "raise": ("", _panic),
    "print": ("", _print),
}
_POINT = re.compile(r"[\s;]*([a-z_.]+)\s*:")
_CHANCE = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_COUNT = re.compile(r"\s*([0-9]{1,9})\*")
_ACTION = re.compile(r"\s*([a-z]+)(?:\(([^()]*)\))?\s*")


class _Parser:
    """Reads one expression from left to right."""

    def __init__(self, text: str, dice: Callable[[], float]) -> None:
        self._text = text
        self._dice = dice
        self._at = 0

    def points(self) -> dict[str, _Point]:
        found: dict[str, _Point] = {}
        while self._text[self._at :].strip(" ;"):
            begin, match = self._at, self._take(_POINT)
            if match is None:
                self._refuse("expected POINT:TERM")
            name = match[1]
            if name not in POINTS:
                self._refuse(f"there is no point {name!r}{_nearest(name, POINTS)}", begin)
            if name in found:
                self._refuse(f"{name} is there twice; join its terms by ->", begin)
            found[name] = _Point(name, self._terms(), self._dice)
            if self._text[self._at :] and not self._text.startswith(";", self._at):
                self._refuse("expected -> or ;")
        return found

    def _terms(self) -> list[_Term]:
        terms = [self._term()]
        while self._skip("->"):
            if terms[-1].left is None and terms[-1].percent >= 100:
                self._refuse("never comes here: the term before it has neither a count nor a %")
            terms.append(self._term())
        return terms

    def _term(self) -> _Term:
        chance, count = self._take(_CHANCE), self._take(_COUNT)
        begin, match = self._at, self._take(_ACTION)
        if match is None:
            self._refuse(f"expected one of {', '.join(_ACTIONS)}")
        if match[1] not in _ACTIONS:
            self._refuse(f"there is no action {match[1]!r}{_nearest(match[1], _ACTIONS)}", begin)
        default, make = _ACTIONS[match[1]]
        try:
            act = make(match[2] or default)
        except ValueError as error:
            raise self._wrong(f"{match[1]}({match[2] or ''}): {error}", begin) from error
        return _Term(act, int(count[1]) if count else None, float(chance[1]) if chance else 100.0)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match

    def _skip(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._at)
        if found:
            self._at += len(mark)
        return found

    def _refuse(self, why: str, at: int | None = None) -> NoReturn:
        raise self._wrong(why, self._at if at is None else at)

    def _wrong(self, why: str, at: int) -> ConfigError:
        rest = self._text[at : at + 20] or "the end"
        return ConfigError(f"{VARIABLE}, character {at + 1} ({rest!r}): {why}")


def _nearest(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
