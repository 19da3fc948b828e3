"""Texts: requests whose prompts are not all token ids yet, and whose turn it is to be tokenized.

Users take turns, part by part, and the texts of each user do: a short text never waits for a long
one, whoever sent either. Knows nothing of time, and of what becomes of the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qwend.engine.request import EngineRequest

SHORT = 1024
"""Characters, token ids and turns that are read at once: 1 ms, as for sending the request over."""


@dataclass(slots=True, eq=False)
class Text:
    """parts: the token ids that are still to come. credit: granted since it was submitted."""

    request: EngineRequest
    parts: Iterator[list[int]]
    tokens: list[int] = field(default_factory=list)
    credit: int = 0

    @property
    def is_short(self) -> bool:
        request = self.request
        size = len(request.text or ()) + len(request.tokens or ()) + len(request.turns or ())
        return size + sum(len(turn.content) for turn in request.turns or ()) <= SHORT


class Texts:
    """In the order of their turns."""

    def __init__(self) -> None:
        self._of_uid: dict[int, list[Text]] = {}

    def __bool__(self) -> bool:
        return bool(self._of_uid)

    def add(self, text: Text) -> None:
        self._of_uid.setdefault(text.request.uid, []).append(text)

    def remove(self, text: Text) -> None:
        uid = text.request.uid
        self._of_uid[uid].remove(text)
        if not self._of_uid[uid]:
            del self._of_uid[uid]

    def find(self, request_id: int) -> Text | None:
        every = (text for texts in self._of_uid.values() for text in texts)
        return next((text for text in every if text.request.id == request_id), None)

    def next(self) -> Text:
        """Whose turn it is; after it come all others of other users, and then all others of its
        own. Raises: StopIteration if there is none."""
        uid = next(iter(self._of_uid))
        texts = self._of_uid.pop(uid)
        self._of_uid[uid] = texts  # last now
        text = texts.pop(0)
        texts.append(text)
        return text
