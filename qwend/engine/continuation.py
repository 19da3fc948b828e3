"""How far an engine has come with an answer, for the engine that goes on with it.

Kept by the front, event by event. A new engine computes prompt and tokens again, or finds them in
the prefix cache, and chooses the next token as the old one would have: the random numbers of a
seed come in the same order, and what penalties look back on is the same.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from qwend.engine.events import Produced, Started


@dataclass(frozen=True, slots=True)
class Continuation:
    """tokens: of the answer, as far as they have gone out. Tokens whose text was still held back
    are not among them: they are chosen again.

    content_chars, reasoning_chars: text that has gone out; of a token that is not in `tokens`
    there may be a part of it.
    started_s, first_token_s, last_token_s: CLOCK_MONOTONIC; 0.0: not reached.
    """

    tokens: tuple[int, ...]
    content_chars: int
    reasoning_chars: int
    cached_tokens: int
    started_s: float
    first_token_s: float
    last_token_s: float

    def to_map(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_map(cls, fields: Mapping[str, Any]) -> Continuation:
        """Inverse of `to_map` after a trip through msgpack."""
        return cls(**{**fields, "tokens": tuple(fields["tokens"])})


@dataclass(slots=True)
class AnswerSoFar:
    """What has gone out of one answer. started_s: 0.0 while no engine has started it."""

    tokens: array[int] = field(default_factory=lambda: array("i"))  # ids fit: llama_token is int32
    prompt_tokens: int = 0
    cached_tokens: int = 0
    started_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    _contents: list[str] = field(default_factory=list)
    _reasonings: list[str] = field(default_factory=list)

    @property
    def content(self) -> str:
        return "".join(self._contents)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasonings)

    def start(self, event: Started) -> None:
        self.prompt_tokens = event.prompt_tokens
        self.cached_tokens = event.cached_tokens
        self.started_s = event.at_s

    def extend(self, event: Produced) -> None:
        self.tokens.extend(event.ids)
        self._contents.append(event.text)
        if event.reasoning:
            self._reasonings.append(event.reasoning)
        self.first_token_s = self.first_token_s or event.at_s
        self.last_token_s = event.at_s

    def started_event(self, request_id: int) -> Started:
        return Started(request_id, self.prompt_tokens, self.cached_tokens, self.started_s)

    def continuation(self) -> Continuation | None:
        """None: there is nothing to go on from."""
        if not self.started_s:
            return None
        return Continuation(
            tuple(self.tokens),
            len(self.content),
            len(self.reasoning),
            self.cached_tokens,
            self.started_s,
            self.first_token_s,
            self.last_token_s,
        )
