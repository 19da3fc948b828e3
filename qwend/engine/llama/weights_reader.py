"""Reads the weights in a thread of its own, so that the engine can import the rest meanwhile.

Owns that thread, for as long as it reads. Both halves of a start take their time, and neither
needs the other: half a second of llama.cpp's, and 0.15 s of Python's, most of it numpy's (0.5B on
two cores; several times as much on a small board).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Thread
from typing import Any

from qwend.engine.llama.weights import WeightsMemory, load_weights
from qwend.engine.settings import EngineStart

# While it reads, llama.cpp calls back some 500 times (its log, our progress), and each call waits
# for the thread that imports to give way: with the usual 5 ms the two would take turns.
SWITCH_S = 0.0001


class WeightsReader:
    """Reads from the moment it is made; `weights` once, for what came of it."""

    def __init__(self, settings: EngineStart, progress: Callable[[float], None]) -> None:
        """progress: told the part that is read, 0..1, from the reading thread."""
        self._settings = settings
        self._progress = progress
        self._read: tuple[Any, WeightsMemory] | None = None
        self._error: BaseException | None = None
        self._usual_switch_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        self._thread = Thread(target=self._run, name="weights", daemon=True)
        self._thread.start()

    def weights(self) -> tuple[Any, WeightsMemory]:
        """Wait for the model, a handle that the caller frees, and how its weights are in memory.

        Raises: ModelError, as `load_weights`.
        """
        self._thread.join()
        sys.setswitchinterval(self._usual_switch_s)
        if self._error is not None:
            raise self._error
        assert self._read is not None, "weights are taken once"
        read, self._read = self._read, None
        return read

    def _run(self) -> None:
        try:
            self._read = load_weights(self._settings, self._progress)
        except BaseException as error:  # told to whoever asks for the weights
            self._error = error
