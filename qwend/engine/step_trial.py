"""One step at a time, timed: what calibration is made of.

Owns the shape of the steps and their repetition; every step is in sequence 0, and the others only
hold copies of it.
"""

from __future__ import annotations

from collections.abc import Callable

from qwend.engine.backend import Backend
from qwend.engine.batch import Batch, Row

# A size is repeated for so long, and the fastest counts: the first run of a size also builds
# llama.cpp's graph, and any run can be descheduled.
SIZE_TIME_S = 0.1
MOST_REPEATS = 4


class StepTrial:
    """time_limit_s: from the creation of this object on."""

    def __init__(self, backend: Backend, clock: Callable[[], float], time_limit_s: float) -> None:
        self.backend = backend
        self._facts = backend.facts
        self._clock = clock
        self._time_limit_s = time_limit_s
        self._begin = clock()
        self._position = 0
        self._largest = min(self._facts.batch_rows, self._facts.cells, self._facts.train_context)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._begin

    def has_time(self, seconds: float) -> bool:
        return self.elapsed_s + seconds <= self._time_limit_s

    def allows(self, rows: int, sampled: int) -> bool:
        # llama.cpp ends the process on more outputs than the context was made for.
        return rows <= self._largest and sampled <= self._facts.sequences

    def most_rows(self, rows: int) -> int:
        return min(rows, self._largest)

    def time(self, rows: int, sampled: int) -> float:
        """The fastest of a few steps from empty cells, the last rows with logits."""
        return self._fastest(rows, sampled, from_empty=True)

    def once(self, rows: int) -> float:
        """One step from empty cells."""
        seconds = self._step(rows, 1)
        self.empty_all()
        return seconds

    def append(self, rows: int) -> float:
        """The fastest of a few steps that go on from what is in the cells."""
        return self._fastest(rows, 1, from_empty=False)

    def fill(self, chunk: int, leave: int) -> tuple[float, int]:
        """Compute one chunk and copy it into the other sequences, each with cells of its own.

        leave: cells, and positions, that must stay free. Returns the seconds of the chunk, and
        the cells in use; 0 if not even the chunk fits.
        """
        seconds = self._step(chunk, 1)
        if chunk + leave > min(self._facts.cells, self._facts.train_context):
            self.empty_all()
            return seconds, 0
        blob = self.backend.save(0)
        used = chunk
        for seq_id in range(1, self._facts.sequences):
            if used + chunk + leave > self._facts.cells:
                break
            if not self.backend.restore(seq_id, blob):
                break
            used += chunk
        return seconds, used

    def empty_all(self) -> None:
        for seq_id in range(self._facts.sequences):
            self.backend.trim(seq_id, 0)
        self._position = 0

    def _fastest(self, rows: int, sampled: int, *, from_empty: bool) -> float:
        fastest, spent_s = float("inf"), 0.0
        for _ in range(MOST_REPEATS):
            seconds = self._step(rows, sampled)
            fastest, spent_s = min(fastest, seconds), spent_s + seconds
            if from_empty:
                self.backend.trim(0, 0)
                self._position = 0
            if spent_s > SIZE_TIME_S:
                break
        return fastest

    def _step(self, rows: int, sampled: int) -> float:
        # Any token does: what a step costs depends on the shape of the batch, not on its content.
        first = self._position
        batch = Batch(
            tuple(
                Row(token=0, position=first + at, seq_id=0, wants_logits=at >= rows - sampled)
                for at in range(rows)
            )
        )
        begin = self._clock()
        self.backend.decode(batch)
        elapsed = self._clock() - begin
        self._position += rows
        return elapsed
