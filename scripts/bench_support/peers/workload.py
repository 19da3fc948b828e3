"""What is asked of a server: token ids and words from seeded generators, and the sampler.

The same for every side, and for every run; what no cache may have seen differs from turn to turn.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from ..stream_times import prompt_tokens

SYSTEM_SEED, SHARED_SEED = 7, 99
SYSTEM_TOKENS = 200
# As a chat samples: qwend's own defaults, in llama-server's names.
SAMPLER: dict[str, Any] = {"seed": 1, "temperature": 0.7, "top_k": 40, "top_p": 0.95}
SYSTEM_TEXT = "You are a helpful assistant on a small computer. Answer in a few short sentences."
# Each is one token of Qwen's vocabulary when a blank stands before it.
_WORDS = (
    "the a small large red green cold warm house river road city lamp door window table garden "
    "market letter story answer question morning evening winter summer water light stone paper "
    "machine engine battery network printer camera sensor fan screen button cable runs stops "
    "opens closes waits turns moves shows reads writes before after under over near between with "
    "without because and but when while"
)


@dataclass(slots=True)
class Workload:
    """One turn of a scenario. Both sides get one of their own, made with the same arguments."""

    scenario: str
    turn: int
    _source: random.Random = field(init=False)

    def __post_init__(self) -> None:
        # A text as seed is hashed by random itself (SHA-512), the same in every process.
        self._source = random.Random(f"{self.scenario}:{self.turn}")

    def fresh(self, count: int) -> list[int]:
        """Token ids that no cache has seen."""
        return prompt_tokens(count, self._source)

    def system(self, count: int = SYSTEM_TOKENS) -> list[int]:
        """Token ids that are the same in every turn."""
        return prompt_tokens(count, random.Random(SYSTEM_SEED))

    def shared(self, count: int) -> list[int]:
        """Token ids that are the same for all clients of this turn, and new in each turn."""
        return prompt_tokens(count, random.Random(SHARED_SEED + self.turn))

    def conversation(self, index: int, count: int) -> list[int]:
        """Token ids of one of many conversations, the same in every turn."""
        return prompt_tokens(count, random.Random(f"{self.scenario}/{index}"))

    def message(self, words: int) -> str:
        """A text of so many words, one token each, that no cache has seen."""
        return " ".join(self._source.choice(_WORDS.split()) for _ in range(words))
