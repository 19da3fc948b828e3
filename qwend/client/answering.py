"""What is known of one answer while it comes: shared by the blocking and the asyncio stream.

Rule 1: the order of a request's messages is checked here, and its credit is reckoned here.
Rule 2: this file does not know how messages arrive.
"""

from __future__ import annotations

from dataclasses import dataclass

from qwend.client.errors import ConnectionLost
from qwend.client.session import Answer
from qwend.wire import Accepted, Done, Progress, Token


@dataclass(frozen=True, slots=True)
class AskedAgain:
    """The daemon that had the request is gone, so it was asked again: the answer begins anew, and
    what was read of it no longer counts."""


class Answering:
    """One request's progress, from its messages in order.

    window: tokens that may be on the way (`credit`); each half of it that was read is granted
    again. None: the daemon paces by itself.
    """

    __slots__ = (
        "_reasonings",
        "_texts",
        "_ungranted",
        "_window",
        "accepted",
        "id",
        "progress",
        "result",
        "tokens",
    )

    def __init__(self, request_id: int, window: int | None) -> None:
        self.id = request_id
        self.accepted: Accepted | None = None
        self.progress: Progress | None = None
        """The latest."""
        self.result: Done | None = None
        """How it ended; None while it has not ended well."""
        self.tokens = 0
        """Tokens read so far."""
        self._texts: list[str] = []
        self._reasonings: list[str] = []
        self._window = window
        self._ungranted = 0

    @property
    def text(self) -> str:
        """The answer as far as it was read."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """What the model said to itself, as far as it was read; no part of `text`."""
        return "".join(self._reasonings)

    def begin_anew(self, request_id: int) -> None:
        """The same was asked again, under this id."""
        self.id, self.tokens, self.accepted = request_id, 0, None
        self._texts.clear()
        self._reasonings.clear()
        self._ungranted = 0

    def follow(self, answer: Answer) -> None:
        """Take note of the next message of this request. Raises: ConnectionLost on a gap."""
        if isinstance(answer, Token):
            if answer.index != self.tokens:
                raise ConnectionLost(
                    f"request {self.id}: token {answer.index} came where {self.tokens} was due"
                )
            self.tokens += len(answer.ids)
            self._ungranted += len(answer.ids)
            self._texts.append(answer.text)
            self._reasonings.append(answer.reasoning)
        elif isinstance(answer, Accepted):
            self.accepted = answer
        elif isinstance(answer, Progress):
            self.progress = answer
        elif isinstance(answer, Done):
            self.result = answer

    def due_credit(self) -> int:
        """Tokens to grant now; they count as granted. 0: none yet."""
        if not self._window or self._ungranted * 2 < self._window:
            return 0
        granted, self._ungranted = self._ungranted, 0
        return granted
