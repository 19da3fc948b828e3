"""The weights in memory: loaded, locked where that is wanted, and what they take.

Owns the figures that `status` shows of them; loading itself is `loading`, locking `lock`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qwend.engine.llama.loading import load_model
from qwend.engine.llama.lock import Locked, lock_weights
from qwend.engine.llama.memory import areas, own_bytes
from qwend.engine.settings import EngineStart


@dataclass(frozen=True, slots=True)
class WeightsMemory:
    """own_bytes: taken by loading, besides the mapped file: repacked weights and the vocabulary.

    locked_bytes: kept out of swap from their first use on. lock_refused: why not more, in words.
    """

    own_bytes: int
    locked_bytes: int = 0
    lock_refused: str = ""


def load_weights(
    settings: EngineStart, progress: Callable[[float], None]
) -> tuple[Any, WeightsMemory]:
    """The model's handle, as `load_model` gives it, and its memory. Raises: ModelError."""
    before, held = areas(), own_bytes()
    model = load_model(settings, progress)
    taken = max(0, own_bytes() - held)
    locked = lock_weights(before, settings.model) if settings.lock else Locked(0, "")
    return model, WeightsMemory(taken, locked.bytes, locked.refused)
