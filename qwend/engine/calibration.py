"""Calibration: run a few steps of each kind at start and time them.

Owns the choice of steps and the time limit; leaves the cells empty, as it found them. What matters
most is measured first, and what no longer fits is left to the cost table's extrapolation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from qwend.engine.backend import Backend
from qwend.engine.depth_slope import READING_ROWS
from qwend.engine.step_cost import StepCost
from qwend.engine.step_trial import MOST_REPEATS, StepTrial

# A start must stay short: 3 s for 0.5B at most, of which the last step begun may take the rest.
TIME_LIMIT_S = 2.5
# The number of threads is looked for in this part of it.
THREADS_TIME_S = 0.5
# 1 is decode, 4 the tile of repacked kernels, 16 already prefills at 92 % of full speed; from 64
# on the cost is a straight line (314 ms and 630 ms for 64 and 128 rows of 0.5B on two cores).
FIRST_STEPS = ((4, 1), (16, 1))
CHUNK_ROWS = 64
SCRIPTED_ROWS = (1, 4, 16, 64)
DEEP_ROWS = (1, 16)  # decode alone, and with a chunk of prefill
# (rows, rows with logits): 3 and 2 tell where tiles begin, the sampled ones what logits cost.
LATER_STEPS = ((3, 1), (4, 4), (8, 1), (2, 1), (8, 8), (2, 2), (128, 1))
# Prefill gains from every thread where decode waits for the memory: fewer threads than planned
# must be so much quicker for one row. On SMT siblings or small cores they are by 20 % and more.
FEWER_ARE_QUICKER = 0.9
# A kept table is believed unless steps are quicker by more than a quarter: then it was measured in
# company. That they are slower is company now, or heat: a table of that would be worth less, and
# the running correction follows. Only what no company explains (another clock, a throttled machine
# for good) is measured again.
QUICKER = 1.25
SLOWER = 6.0
# Conversations grow: a step at a thousand tokens counts twice one at a hundred.
DEEP_WEIGHT = 2 / 3
# Flash attention must gain this much, for it loses where several sequences decode together: 52 ms
# against 37 ms for 4 rows at 1,024 tokens (0.5B, x86-64, AVX2).
FLASH_GAINS = 0.97


@dataclass(frozen=True, slots=True)
class Calibration:
    """cost: of steps with `threads` threads, the quickest number. by_threads: threads -> seconds
    of a step of one row. used_cells: at how many the depth was measured. took_s: this start.
    measured_at: seconds since the epoch, as given. kept: the table is from an earlier start.
    """

    cost: StepCost
    threads: int
    by_threads: dict[int, float] = field(default_factory=dict)
    used_cells: int = 0
    took_s: float = 0.0
    measured_at: float = 0.0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class DepthCost:
    """Seconds of a step of one row at a depth of about 100 and of about 1,000 tokens."""

    shallow_s: float
    deep_s: float


def calibrate(
    backend: Backend,
    clock: Callable[[], float],
    cached: Calibration | None = None,
    *,
    threads: int = 1,
    measured_at: float = 0.0,
) -> Calibration:
    """Measure, or confirm `cached` by a few steps; the backend is left with the best threads.

    threads: the most there may be. The cells must be empty, and are again afterwards.
    """
    trial = StepTrial(backend, clock, TIME_LIMIT_S)
    try:
        if cached is not None and _still_true(trial, cached, threads):
            return replace(cached, took_s=trial.elapsed_s, kept=True)
        return _measured(trial, threads, measured_at)
    finally:
        trial.empty_all()


def calibrate_script(backend: Backend, clock: Callable[[], float]) -> Calibration:
    """For the scripted backend: always the same few steps, two of each size that it allows, so
    that a script can name the steps that come after them."""
    trial = StepTrial(backend, clock, TIME_LIMIT_S)
    sizes = [rows for rows in SCRIPTED_ROWS if trial.allows(rows, 1)]
    measured = {rows: min(trial.once(rows), trial.once(rows)) for rows in sizes}
    return Calibration(StepCost(measured), 1, {1: measured[1]}, took_s=trial.elapsed_s)


def choose_flash_attention(measure: Callable[[str], DepthCost]) -> str:
    """`on` or `off`, by what `measure` says of each."""
    on, off = (
        (1 - DEEP_WEIGHT) * cost.shallow_s + DEEP_WEIGHT * cost.deep_s
        for cost in (measure("on"), measure("off"))
    )
    return "on" if on < off * FLASH_GAINS else "off"


def _still_true(trial: StepTrial, cached: Calibration, threads: int) -> bool:
    if not 1 <= cached.threads <= threads:
        return False
    trial.backend.set_threads(cached.threads)
    ratio = trial.time(1, 1) / max(cached.cost.calibrated(1), 1e-9)
    return 1 / QUICKER <= ratio <= SLOWER


def _measured(trial: StepTrial, threads: int, measured_at: float) -> Calibration:
    by_threads = _by_threads(trial, threads)
    best = min(by_threads, key=by_threads.__getitem__)
    if by_threads[best] > by_threads[threads] * FEWER_ARE_QUICKER:
        best = threads
    trial.backend.set_threads(best)
    table = _Table(trial, {1: by_threads[best]})
    table.measure(FIRST_STEPS)
    cell_s, used_cells = _depth(trial, table)
    table.measure(LATER_STEPS)
    return Calibration(
        StepCost(table.measured, all_sampled=table.all_sampled, cell_s=cell_s),
        best,
        by_threads,
        used_cells,
        trial.elapsed_s,
        measured_at,
    )


class _Table:
    """What has been measured so far: rows -> seconds."""

    def __init__(self, trial: StepTrial, measured: dict[int, float]) -> None:
        self._trial = trial
        self.measured = measured
        self.all_sampled: dict[int, float] = {}

    def measure(self, steps: Iterable[tuple[int, int]]) -> None:
        """Time those (rows, rows with logits) that the context allows and that fit the time."""
        for rows, sampled in steps:
            if self._trial.allows(rows, sampled) and self.has_time(rows):
                table = self.measured if sampled == 1 else self.all_sampled
                table[rows] = self._trial.time(rows, sampled)

    def has_time(self, rows: int) -> bool:
        return self._trial.has_time(StepCost(self.measured).calibrated(rows))


def _by_threads(trial: StepTrial, threads: int) -> dict[int, float]:
    """Seconds of a step of one row, for all threads and for some smaller counts."""
    by_threads: dict[int, float] = {}
    counts = {1, 2, threads // 4, threads // 2, threads * 3 // 4, threads - 1, threads}
    for count in sorted(counts, reverse=True):
        enough = by_threads and trial.elapsed_s > THREADS_TIME_S
        if 1 <= count <= threads and not enough:
            trial.backend.set_threads(count)
            by_threads[count] = trial.time(1, 1)
    return by_threads


def _depth(trial: StepTrial, table: _Table) -> tuple[float, int]:
    """Time a chunk, fill the cells with copies of it, and time steps among them.

    Returns the seconds that a used cell adds for each of rows + 2, and how many cells were used;
    zeros: unknown.
    """
    chunk = trial.most_rows(CHUNK_ROWS)
    if not table.has_time(chunk):
        return 0.0, 0
    seconds, used = trial.fill(chunk, leave=MOST_REPEATS * sum(DEEP_ROWS))
    table.measured[chunk] = min(seconds, table.measured.get(chunk, seconds))
    added = []
    for rows in DEEP_ROWS:
        if rows in table.measured and used and table.has_time(rows):
            more_s = trial.append(rows) - table.measured[rows]
            added.append(((rows + READING_ROWS) * used, more_s))
    trial.empty_all()
    weight = sum(cells * cells for cells, _ in added)
    slope = sum(cells * more_s for cells, more_s in added) / weight if weight else 0.0
    return max(slope, 0.0), used if added else 0
