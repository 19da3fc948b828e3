"""An answer on its way to the screen: what to show while waiting, the text, the figures.

Rule 1: text is shown the moment it comes.
Rule 2: this file does not know where the answer comes from, nor what is done with it afterwards.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

from qwend.cli.amounts import counted
from qwend.cli.report import is_coloured
from qwend.cli.wrap import Wrapper
from qwend.wire import Done, Progress

BEGINS_ANEW = "(the daemon was restarted and knew nothing of the answer: it begins again)"

# A model can be made to say anything: escape sequences could rewrite the screen or the title. Tab
# and line feed stay; carriage return would overwrite the line.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"  # SGR, ECMA-48


class Screen:
    """Writes answers to a stream; on a terminal without control characters and with whole words.

    A character that the stream's encoding lacks becomes "?".
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty()
        self._wrapper = Wrapper(self._columns)
        self._is_dimming = is_coloured(stream, os.environ)
        self._at_start = True
        self._is_aside = False

    def aside(self, text: str) -> None:
        """Show what is no part of the answer, reasoning: dimmed, and on a terminal only."""
        if text and self._is_terminal:
            self._is_aside = True
            shown = self._wrapper.feed(_CONTROLS.sub("", text))
            self._put(f"{_DIM}{shown}{_NORMAL}" if self._is_dimming else shown)
            self._at_start = text.endswith("\n")

    def write(self, text: str) -> None:
        if text and self._is_aside:
            self.end_line()
            self._put("\n")
            # What it began, a block of code perhaps, ends with it.
            self._wrapper = Wrapper(self._columns)
        shown = text
        if self._is_terminal:
            shown = self._wrapper.feed(_CONTROLS.sub("", text))
        self._put(shown)

    def _put(self, shown: str) -> None:
        if shown:
            # Before it is out: Ctrl-C may come right behind the write.
            self._at_start = shown.endswith("\n")
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:
                coding = self._stream.encoding
                self._stream.write(shown.encode(coding, "replace").decode(coding))
            self._stream.flush()

    def end_line(self) -> None:
        """Whatever comes next begins a line."""
        self._is_aside = False
        if not self._at_start:
            self._stream.write("\n")
            self._stream.flush()
            self._at_start = True
        self._wrapper.start_line()

    def _columns(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        return columns or 80  # a serial line may not know its size


class Waiting:
    """One line, while nothing is there to read yet; gone as soon as something is.

    Only on a terminal, on stderr, and only if stdout is one too: their lines would mix.
    """

    def __init__(self) -> None:
        self._is_shown = False
        self._can_show = sys.stderr.isatty() and sys.stdout.isatty()

    def show(self, progress: Progress) -> None:
        in_the_text = progress.stage == "recovering" and progress.done
        if not self._can_show or in_the_text:
            return
        sys.stderr.write(f"\r\x1b[K({waited_for(progress)})")
        sys.stderr.flush()
        self._is_shown = True

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._is_shown = False


def waited_for(progress: Progress) -> str:
    """What keeps the first token."""
    match progress.stage:
        case "recovering":
            return "the engine died; it is started again"
        case "queued":
            return f"waiting for {progress.total} before you" if progress.total else "waiting"
        case "waiting":
            answers = counted(progress.total, "answers")
            return f"the model is changed; waiting for {answers} of the one before"
        case "loading":
            return f"the model is being loaded: {progress.done} %"
        case _:
            return f"reading {progress.done} of {progress.total} tokens"


def figures(done: Done) -> str:
    """Return one line: time to the first token, tokens per second, tokens in and out, energy."""
    usage, timings = done.usage, done.timings
    parts = []
    if timings is not None:
        parts.append(f"first token after {timings.ttft_s:.2f} s")
        # The first token is there when decoding begins: n tokens have n - 1 gaps.
        if timings.decode_s > 0 and usage.completion_tokens > 1:
            rate = (usage.completion_tokens - 1) / timings.decode_s
            parts.append(f"{rate:.1f} tokens/s")
    parts.append(f"{usage.completion_tokens} tokens")
    cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
    parts.append(f"{usage.prompt_tokens} in the prompt{cached}")
    if usage.energy_j is not None:
        each = usage.energy_j / max(usage.completion_tokens, 1)
        parts.append(f"{usage.energy_j:.1f} J, {each:.2f} J a token")
    return "; ".join(parts)


def ending(done: Done) -> str:
    """Return what the reader should know of how it ended; nothing for an ordinary end."""
    if done.finish_reason == "length":
        return f"cut off after {done.usage.completion_tokens} tokens"
    return "cancelled" if done.finish_reason == "cancelled" else ""
