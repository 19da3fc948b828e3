"""What a person is typing, computed before they press Enter: what to ask for, and when.

Rule 1: which text is worth a prefill, and after which pause, is decided here; nothing is shown.
Rule 2: this file does not know threads, connections or the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from qwend.cli.chat.conversation import Conversation
from qwend.cli.chat.slash import is_command
from qwend.wire import ChatMessage

# Between two keys of a word most people need less (median 120 to 180 ms at 40 to 60 words a
# minute): a pause of this length is mostly one between words.
PAUSE_S: Final = 0.15
# About two words, or two tokens of Chinese for each three characters: less costs as much again in
# closing tokens, five of them, as it is worth.
NEW_CHARS: Final = 8
# Who rests so long is likely to be at the end: then the last characters count, too, so that Enter
# finds the whole prompt computed.
REST_S: Final = 0.35


class Timer(Protocol):
    def cancel(self) -> None: ...


Schedule = Callable[[float, Callable[[], None]], Timer]
"""seconds, callback -> a timer that has not run yet"""


class Prefills(Protocol):
    """Where prefills go; neither call waits or fails."""

    def ask(self, messages: tuple[ChatMessage, ...]) -> None:
        """Compute these in place of whatever was asked before."""

    def give_up(self) -> None:
        """Stop what was asked before."""


class TypeAhead:
    """Told of each change of the input line. All calls belong to one thread, the timer's too."""

    def __init__(
        self, prefills: Prefills, conversation: Conversation, call_later: Schedule
    ) -> None:
        self._prefills = prefills
        self._conversation = conversation
        self._call_later = call_later
        self._timer: Timer | None = None
        self._text = ""
        self._asked = ""

    def typed(self, text: str) -> None:
        """The input line has changed to `text`."""
        self._text = text
        self._set(PAUSE_S, self._pause)

    def stop(self) -> None:
        """The line was sent, or thrown away."""
        self._clear()
        if self._asked:
            self._asked = ""
            self._prefills.give_up()

    def _pause(self) -> None:
        if self._new_chars() >= NEW_CHARS:
            self._ask()
        else:
            self._set(REST_S - PAUSE_S, self._ask)

    def _ask(self) -> None:
        self._clear()
        text = self._text
        if text == self._asked or len(text.strip()) < NEW_CHARS or is_command(text):
            return
        self._asked = text
        self._prefills.ask(self._conversation.asking(text))

    def _new_chars(self) -> int:
        """Characters behind what `_text` has in common with what was asked for."""
        same = 0
        for new, old in zip(self._text, self._asked, strict=False):
            if new != old:
                break
            same += 1
        return len(self._text) - same

    def _set(self, delay_s: float, action: Callable[[], None]) -> None:
        self._clear()
        self._timer = self._call_later(delay_s, action)

    def _clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
