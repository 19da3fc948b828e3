"""One input and what comes of it: nothing, or a fault with a name by which it is known again."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.fuzz.catalogue import Target

ROOT = Path(__file__).resolve().parents[3]
SLOW_S = 2.0
"""Processor time. The slowest good input takes 0.03 s, and ten times as much under atheris."""


class TooSlow(Exception):
    """The input took SLOW_S of processor time and was not done."""


@dataclass(frozen=True, slots=True)
class Fault:
    """kind: of the exception. place: the line of ours that it came from. said: its message."""

    kind: str
    place: str
    said: str

    @property
    def key(self) -> tuple[str, str]:
        """Two inputs with the same key show the same fault."""
        return self.kind, self.place

    def __str__(self) -> str:
        return f"{self.kind} at {self.place}: {self.said[:200]}"


def fault_of(target: Target, data: bytes) -> Fault | None:
    """Try one input. Only in the main thread, for the alarm."""
    try:
        with _alarm():
            target.run(data)
    except Exception as error:
        kind = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        return Fault(kind, _place(error), str(error).partition("\n")[0])
    return None


def shrunk(data: bytes, still: Callable[[bytes], bool]) -> bytes:
    """A shorter input for which `still` holds: parts are left out, the larger ones first."""
    part = len(data) // 2
    while part:
        start = 0
        while start < len(data):
            shorter = data[:start] + data[start + part :]
            if still(shorter):
                data = shorter
            else:
                start += part
        part //= 2
    return data


def _place(error: BaseException) -> str:
    """The innermost frame in this repository: a fault in a library belongs to who called it."""
    ours = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        others = (ROOT / ".venv", Path(__file__).parent)
        if path.is_relative_to(ROOT) and not any(map(path.is_relative_to, others)):
            # A slow input is stopped anywhere: the function is what it is known by.
            line = frame.name if isinstance(error, TooSlow) else frame.lineno
            ours = f"{path.relative_to(ROOT)}:{line}"
    return ours


@contextmanager
def _alarm() -> Iterator[None]:
    # Not SIGALRM, which is libFuzzer's.
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOW_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"not done after {SLOW_S:g} s of processor time")
