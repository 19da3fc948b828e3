"""Openings: the logits after prompts that were computed ahead, while they were still being typed.

When Enter is pressed the answer's first token needs no step then, only a choice. A row of logits
is 0.6 MB at 151,936 tokens, so a few are kept: one for each person who is typing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

# People who type at the same moment on one small machine.
MOST_OPENINGS = 4


class Openings:
    """The latest opening of each uid, the latest used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Opening] = OrderedDict()

    def keep(
        self, uid: int, prompt: tuple[int, ...], logits: Any, checkpoint: int = 0
    ) -> tuple[tuple[int, ...], ...]:
        """Keep it in place of the uid's last; return the tokens of which that had left copies.

        checkpoint: how many leading tokens of the prompt have a copy of their own; 0: none do.
        """
        before = self._kept.pop(uid, None)
        self._kept[uid] = _Opening(prompt, logits, checkpoint)
        if len(self._kept) > MOST_OPENINGS:
            self._kept.popitem(last=False)
        if before is None or before.prompt == prompt:
            return ()
        copies = (before.prompt, before.prompt[: before.checkpoint])
        return copies if before.checkpoint else copies[:1]

    def take(self, uid: int, prompt: tuple[int, ...]) -> Any | None:
        """The logits after exactly this prompt, once."""
        kept = self._kept.get(uid)
        if kept is None or kept.prompt != prompt:
            return None
        del self._kept[uid]
        return kept.logits


@dataclass(frozen=True, slots=True)
class _Opening:
    prompt: tuple[int, ...]
    logits: Any
    checkpoint: int
