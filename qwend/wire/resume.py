"""`resume`: go on reading an answer over another connection.

Rule 1: a key is the client's to choose; it is looked up among the requests of the same user only.
Rule 2: this file does not know how long an answer is kept for whoever has lost it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from qwend.wire import limits
from qwend.wire.fields import Fields

KEY_CHARS = range(8, 65)
"""Of a resume key. 8 is enough to count by, 64 for two UUIDs."""


@dataclass(frozen=True, slots=True)
class Resume:
    """`id` is the request's from now on; from, text_chars, reasoning_chars: what was received."""

    op: ClassVar[str] = "resume"
    id: int
    key: str
    tokens: int
    """On the wire `from`: ids received, so the index of the next."""
    text_chars: int
    """Characters (Unicode code points) of `text` received."""
    reasoning_chars: int = 0

    def to_map(self) -> dict[str, object]:
        return {
            "op": self.op,
            "id": self.id,
            "key": self.key,
            "from": self.tokens,
            "text_chars": self.text_chars,
            "reasoning_chars": self.reasoning_chars,
        }

    @classmethod
    def read(cls, source: Fields) -> Resume:
        def count(name: str) -> int:
            return source.integer(name, 0, limits.COUNT_MAX)

        return cls(
            source.integer("id", 0, limits.ID_MAX),
            read_key(source, "key"),
            count("from"),
            count("text_chars"),
            count("reasoning_chars") if source.has("reasoning_chars") else 0,
        )


def read_key(source: Fields, name: str) -> str:
    key = source.text(name, max_chars=KEY_CHARS.stop - 1)
    if len(key) not in KEY_CHARS:
        raise source.wrong(
            name, key, f"{KEY_CHARS.start} to {KEY_CHARS.stop - 1} characters", "invalid_value"
        )
    return key
