"""Words kept whole at the right margin, in text that is shown while it comes.

Rule 1: nothing is held back: a word that turns out not to fit is taken off its line again and put
on the next one.
Rule 2: this file does not know the terminal but for its width; it turns text into text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

# Preformatted text is for copying: a line feed in it would be ours, not the model's.
_FENCE = "```"
_TAB = 8


class Wrapper:
    """Call `feed` with each piece; write what it returns. columns: the terminal's width now."""

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns
        self._in_fence = False
        self.start_line()

    def start_line(self) -> None:
        """The cursor is at the left margin."""
        self._column = 0
        self._word = ""
        self._word_cells = 0
        self._line_begin = ""

    def feed(self, text: str) -> str:
        # The last column stays empty: terminals differ in where the cursor is behind it.
        width = self._columns() - 1
        return "".join(self._next(character, width) for character in text)

    def _next(self, character: str, width: int) -> str:
        if character == "\n":
            if self._line_begin == _FENCE:
                self._in_fence = not self._in_fence
            self.start_line()
            return character
        if len(self._line_begin) < len(_FENCE):
            self._line_begin += character
        cells = _TAB - self._column % _TAB if character == "\t" else _cells(character)
        if self._in_fence or self._column + cells <= width:
            return self._put(character, cells)
        if character in " \t":
            return self._break("")  # the line feed stands for it
        if cells == 2:
            return self._break("") + self._put(character, cells)
        if self._word_cells + cells > width:
            # Longer than a line (an address): the terminal breaks it, and copies it in one piece.
            self._column -= width + 1
            return self._put(character, cells)
        word, word_cells = self._word, self._word_cells
        taken_back = f"\x1b[{word_cells}D\x1b[K" if word_cells else ""
        broken = taken_back + self._break(word)
        self._word, self._word_cells, self._column = word, word_cells, word_cells
        return broken + self._put(character, cells)

    def _put(self, character: str, cells: int) -> str:
        self._column += cells
        # Between wide characters (Chinese) a line may break anywhere.
        if character in " \t" or cells == 2:
            self._word, self._word_cells = "", 0
        else:
            self._word += character
            self._word_cells += cells
        return character

    def _break(self, carried: str) -> str:
        self.start_line()
        self._line_begin = "..."  # this line goes on: it cannot begin a fence
        return "\n" + carried


def _cells(character: str) -> int:
    """Return how many columns a terminal gives to it (Unicode Standard Annex 11)."""
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.category(character) in ("Mn", "Me", "Cf") else 1
