"""What the person types: an input line with history, editing and several lines.

Rule 1: prompt_toolkit is known here and nowhere else.
Rule 2: this file does not know what is done with a question.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.vt100 import Vt100_Output

from qwend.errors import ConfigError
from qwend.paths import paths_for


class Watcher(Protocol):
    """Who is told of the input line while it is being edited; it must not wait."""

    def typed(self, text: str) -> None:
        """The line has changed to `text`."""

    def stop(self) -> None:
        """The line was sent, or thrown away."""


class TerminalLines:
    """notice: says how to leave, to who presses Ctrl-C on an empty line."""

    def __init__(
        self,
        completions: Iterable[str],
        notice: Callable[[str], None],
        watcher: Watcher | None = None,
    ) -> None:
        self._notice = notice
        self._watcher = watcher
        self._session: PromptSession[str] = PromptSession(
            "> ",
            history=_history(os.environ),
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation="  ",
            completer=WordCompleter(list(completions), sentence=True),
            complete_while_typing=False,
            # Room for a menu would be empty lines under each question.
            reserve_space_for_menu=0,
            output=_output(),
        )
        if watcher is not None:
            changed = self._session.default_buffer.on_text_changed
            changed += lambda buffer: watcher.typed(buffer.text)

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                line = self._read()
            except KeyboardInterrupt:
                # On a line with text it has cleared that line, as in a shell.
                if not self._session.default_buffer.text:
                    self._notice("Ctrl-D or /exit leaves.")
                continue
            except EOFError:
                return
            with _keys_kept():
                yield line
            print()  # sets the next question apart from the answer

    def _read(self) -> str:
        try:
            return self._session.prompt()
        finally:
            if self._watcher is not None:
                self._watcher.stop()


def call_later(delay_s: float, action: Callable[[], None]) -> asyncio.TimerHandle:
    """For a watcher: run `action` in the input line's own event loop, and only while it is open."""
    return asyncio.get_running_loop().call_later(delay_s, action)


def _output() -> Vt100_Output:
    output = Vt100_Output.from_pty(sys.stdout)
    # Some terminals (serial consoles) do not say where the cursor is, which brings up a warning.
    output.enable_cpr = False
    return output


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    @keys.add("c-j")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _history(environ: Mapping[str, str]) -> History:
    """The person's own, also as root: what they asked is no state of the machine's daemon."""
    own = {name: value for name, value in environ.items() if not name.endswith("_DIRECTORY")}
    try:
        path = paths_for(own, os.geteuid() or 1).state / "chat_history"
        _make_private(path)
    except (ConfigError, OSError):
        return InMemoryHistory()  # a home that cannot be written to is no reason not to talk
    return FileHistory(path)


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))


@contextlib.contextmanager
def _keys_kept() -> Iterator[None]:
    """While an answer comes, typed keys do not show in it; the next input line gets them."""
    try:
        before = termios.tcgetattr(0)
    except termios.error:
        yield
        return
    silent = termios.tcgetattr(0)
    # As prompt_toolkit reads them: Enter must arrive as the carriage return that it is.
    silent[0] &= ~termios.ICRNL
    silent[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(0, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
