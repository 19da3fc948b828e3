"""A program at a pseudo-terminal: type, and wait for what appears."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

DEADLINE_S = 30.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07")


class Terminal:
    """raw: every byte that the program wrote. shown: the same without escape sequences."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self.process = process
        self.raw = b""

    @property
    def shown(self) -> str:
        return _ESCAPES.sub("", self.raw.decode("utf-8", "replace"))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, *, after: int = 0) -> int:
        """Wait until `text` is shown behind `after`; return where it ends in `shown`."""
        end = time.monotonic() + DEADLINE_S
        while (found := self.shown.find(text, after)) < 0:
            if time.monotonic() > end or not self._read(0.1):
                raise AssertionError(
                    f"never shown: {text!r}; last shown {self.shown[after:][-300:]!r}"
                )
        return found + len(text)

    def wait_for_input(self) -> int:
        """Wait until an input line is open; return what is shown by then, counted as `wait_for`."""
        end = time.monotonic() + DEADLINE_S
        # prompt_toolkit switches bracketed paste on for each input line, and off behind it.
        while self.raw.count(b"\x1b[?2004h") <= self.raw.count(b"\x1b[?2004l"):
            if time.monotonic() > end or not self._read(0.1):
                raise AssertionError(f"no input line came; shown was {self.shown!r}")
        return len(self.shown)

    def wait(self) -> int:
        """Read to the end; return the exit status."""
        end = time.monotonic() + DEADLINE_S
        while self._read(0.1):
            assert time.monotonic() < end, f"it does not end; shown was {self.shown!r}"
        return self.process.wait(DEADLINE_S)

    def _read(self, timeout_s: float) -> bool:
        """Read what is there; False once the program has closed its terminal."""
        if select.select([self._master], [], [], timeout_s)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # EIO: no process has the terminal open any more
                return False
            self.raw += data
            return bool(data)
        return True


@contextmanager
def terminal(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Terminal]:
    """Start `command` as the foreground program of a new 80x24 terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**env, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        os.close(master)
