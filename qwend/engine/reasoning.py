"""Reasoning apart from content: the stream of an answer's text, cut at <think> and </think>.

Owns where the one block of reasoning begins and ends; it stands at the beginning of an answer or
nowhere, so that an answer may speak of `<think>` later on. Knows nothing of tokens: text comes in
pieces of any size, and a tag that is spread over several of them is found all the same.

    OPENING -> BEGUN -> REASONING -> CLOSED -> CONTENT      (OPENING -> CONTENT without a tag)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

OPEN_TAG = "<think>"
CLOSE_TAG = "</think>"


class _State(Enum):
    OPENING = auto()  # nothing but white space so far
    BEGUN = auto()  # line feeds behind the opening tag
    REASONING = auto()
    CLOSED = auto()  # line feeds behind the closing tag
    CONTENT = auto()


@dataclass(frozen=True, slots=True)
class Split:
    """What became certain. Reasoning comes before content.

    dropped: characters that are neither: the tags, and the line feeds beside them.
    """

    reasoning: str = ""
    content: str = ""
    dropped: int = 0

    def __add__(self, other: Split) -> Split:
        return Split(
            self.reasoning + other.reasoning,
            self.content + other.content,
            self.dropped + other.dropped,
        )


class ReasoningSplitter:
    """Feed text as it comes; `finish` once at the end.

    opened: the prompt has opened the reasoning already (Qwen3.5), so the answer begins within it.
    Invariant: characters of reasoning, content, dropped and `held` together are all that was fed.
    """

    __slots__ = ("_state", "held")

    def __init__(self, *, opened: bool) -> None:
        self._state = _State.BEGUN if opened else _State.OPENING
        self.held = ""

    def feed(self, text: str) -> Split:
        fed = len(self.held) + len(text)
        self.held += text
        if self._state is _State.OPENING:
            self._open()
        if self._state is _State.BEGUN:
            self._skip_line_feeds(_State.REASONING)
        reasoning = self._reason() if self._state is _State.REASONING else ""
        if self._state is _State.CLOSED:
            self._skip_line_feeds(_State.CONTENT)
        content = self._release(len(self.held)) if self._state is _State.CONTENT else ""
        return Split(reasoning, content, fed - len(self.held) - len(reasoning) - len(content))

    def finish(self) -> Split:
        """The answer is over: what is held can no longer become a tag."""
        held = self._release(len(self.held))
        if self._state is not _State.REASONING:
            return Split(content=held)
        reasoning = held.rstrip("\n")
        return Split(reasoning, dropped=len(held) - len(reasoning))

    def _open(self) -> None:
        said = self.held.lstrip()
        if said.startswith(OPEN_TAG):
            self.held = said[len(OPEN_TAG) :]
            self._state = _State.BEGUN
        elif not OPEN_TAG.startswith(said):
            self._state = _State.CONTENT

    def _skip_line_feeds(self, following: _State) -> None:
        self.held = self.held.lstrip("\n")
        if self.held:
            self._state = following

    def _reason(self) -> str:
        """Release reasoning up to the closing tag, or up to what may become one."""
        before, tag, after = self.held.partition(CLOSE_TAG)
        if tag:
            self.held = after
            self._state = _State.CLOSED
            return before.rstrip("\n")
        return self._release(len(before[: len(before) - _begun_tag(before)].rstrip("\n")))

    def _release(self, count: int) -> str:
        released, self.held = self.held[:count], self.held[count:]
        return released


def _begun_tag(text: str) -> int:
    """Length of the end of `text` that is the beginning of a closing tag."""
    # "<" stands in the tag only once, so at most one length fits.
    at = text.rfind("<", -len(CLOSE_TAG) + 1)
    return len(text) - at if at >= 0 and CLOSE_TAG.startswith(text[at:]) else 0
