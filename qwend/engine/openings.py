"""Openings: the logits after prompts that were computed ahead, while they were still being typed.

When Enter is pressed the answer's first token needs no step then, only a choice. A row of logits
is 0.6 MB at 151,936 tokens, so a few are kept: one for each person who is typing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

# People who type at the same moment on one small machine.
MOST_OPENINGS = 4


class Openings:
    """The latest opening of each uid, the latest used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[tuple[int, ...], Any]] = OrderedDict()

    def keep(self, uid: int, prompt: tuple[int, ...], logits: Any) -> tuple[int, ...] | None:
        """Keep it in place of the uid's last; return the prompt of that, if it was another."""
        before = self._kept.pop(uid, None)
        self._kept[uid] = (prompt, logits)
        if len(self._kept) > MOST_OPENINGS:
            self._kept.popitem(last=False)
        return before[0] if before is not None and before[0] != prompt else None

    def take(self, uid: int, prompt: tuple[int, ...]) -> Any | None:
        """The logits after exactly this prompt, once."""
        kept = self._kept.get(uid)
        if kept is None or kept[0] != prompt:
            return None
        del self._kept[uid]
        return kept[1]
