"""Calibration: run a few steps of each size at start and time them.

Owns the choice of sizes and the time limit; leaves the cells empty, as it found them.
"""

from __future__ import annotations

from collections.abc import Callable

from qwend.engine.backend import Backend
from qwend.engine.batch import Batch, Row
from qwend.engine.step_cost import StepCost

# 1 is decode, 4 the tile of repacked kernels, 16 already prefills at 92 % of full speed; from 64
# on the cost is a straight line (314 ms and 630 ms for 64 and 128 rows of 0.5B on two cores).
ROW_COUNTS = (1, 4, 16, 64)
# Each size twice, the faster counts: the first run of a size also builds llama.cpp's graph.
REPEATS = 2
# Sizes whose turn would begin later than this are left to extrapolation: a start must stay short.
TIME_LIMIT_S = 1.5


def calibrate(backend: Backend, clock: Callable[[], float]) -> StepCost:
    """Measure seconds per step by rows. Uses sequence 0 and empties it again."""
    facts = backend.facts
    largest = min(facts.batch_rows, facts.cells, facts.train_context)
    measured: dict[int, float] = {}
    begin = clock()
    for rows in ROW_COUNTS:
        if rows > largest or (measured and clock() - begin > TIME_LIMIT_S):
            break
        measured[rows] = min(_time_step(backend, clock, rows) for _ in range(REPEATS))
    return StepCost(measured)


def _time_step(backend: Backend, clock: Callable[[], float], rows: int) -> float:
    # Any token does: what a step costs depends on the shape of the batch and not on its content.
    batch = Batch(
        tuple(
            Row(token=0, position=at, seq_id=0, wants_logits=at == rows - 1) for at in range(rows)
        )
    )
    begin = clock()
    backend.decode(batch)
    elapsed = clock() - begin
    backend.trim(0, 0)
    return elapsed
