"""Prompt lookup: guess the next tokens from where the last few stood before.

Answers repeat their prompt: code that is edited, text that is corrected, names, numbers. A guess
costs draft rows in a step, so whether it pays is decided by the cost table and by how often the
guesses have been right of late. That is known without spending anything: what would have been
guessed is compared with every token that is sampled, guessed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

# The longest run of last tokens that is looked for, and the shortest. One token alone stands
# nearly anywhere and says nothing.
LONGEST_RUN = 3
SHORTEST_RUN = 2
# Weight of the newest comparison: eight right ones in a row bring the acceptance to 0.73, where
# four rows for one begin to pay (43 ms against 18 ms for 0.5B on two cores).
WEIGHT = 0.15
# More than this is not asked for at once: a step of 8 rows takes 4 times as long as one of 1.
MOST_DRAFTS = 7


class Drafter(Protocol):
    """Guesses for one sequence."""

    @property
    def acceptance(self) -> float:
        """How likely a guess is right when all before it are, of late; 0 .. 1."""

    def extend(self, token: int) -> None:
        """A token was sampled."""

    def draft(self, most: int) -> tuple[int, ...]:
        """The next tokens, as far as they can be guessed; at most `most`."""


OpenDrafter = Callable[[Sequence[int]], Drafter]


class PromptLookup:
    """The last run of tokens is looked up among all before; the latest place counts."""

    def __init__(self, tokens: Sequence[int]) -> None:
        """tokens: the prompt, and what is known of the answer."""
        self.acceptance = 0.0
        self._tokens: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}
        self._guess: int | None = None
        for token in tokens:
            self._append(token)
        self._guess = self._next()

    def extend(self, token: int) -> None:
        if self._guess is not None:
            self.acceptance += WEIGHT * ((self._guess == token) - self.acceptance)
        self._append(token)
        self._guess = self._next()

    def draft(self, most: int) -> tuple[int, ...]:
        at = self._place()
        return () if at is None else tuple(self._tokens[at : at + most])

    def _append(self, token: int) -> None:
        # The runs that end before this token are entered with it: a run must not find itself.
        end = len(self._tokens)
        for length in range(SHORTEST_RUN, min(LONGEST_RUN, end) + 1):
            self._after[tuple(self._tokens[end - length : end])] = end
        self._tokens.append(token)

    def _place(self) -> int | None:
        """Where the tokens stand that followed the last run before."""
        end = len(self._tokens)
        for length in range(min(LONGEST_RUN, end), SHORTEST_RUN - 1, -1):
            at = self._after.get(tuple(self._tokens[end - length : end]))
            if at is not None:
                return at
        return None

    def _next(self) -> int | None:
        at = self._place()
        return None if at is None else self._tokens[at]
