"""Measures a decode step with and without flash attention, on small contexts of the loaded model.

Owns those contexts; who decides from the figures is `choose_flash_attention`. Used before the
context that serves is opened, for that one must be opened with the answer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qwend.engine.calibration import DepthCost, choose_flash_attention
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.llama.loading import open_context
from qwend.engine.llama.threadpool import attach_threadpool
from qwend.engine.settings import EngineStart
from qwend.errors import ModelError

# One chunk is computed, and copied into as many sequences as make about 1,000 cells: 0.2 s for
# 0.5B on two cores, where computing them all would take 5 s.
CHUNK_ROWS = 32
SEQUENCES = 32
SHALLOW = 3 * CHUNK_ROWS
REPEATS = 4  # the fastest counts
# A chunk that takes longer is of a large model, or computed in company: no time to measure, and in
# company no sense in it. 0.5B takes 0.17 s.
LONGEST_CHUNK_S = 1.5


class TooSlow(Exception):
    """Measuring would hold up the start for too long."""


def measured_flash_attention(
    model: Any, settings: EngineStart, clock: Callable[[], float]
) -> str | None:
    """`on` or `off`, whichever decodes quicker here; None: it could not be measured now.

    Takes about half a second for 0.5B. Raises: ModelError if there is no memory for a context of
    a thousand tokens.
    """
    try:
        return choose_flash_attention(lambda choice: _measure(model, settings, clock, choice))
    except TooSlow:
        return None


def _measure(
    model: Any, settings: EngineStart, clock: Callable[[], float], choice: str
) -> DepthCost:
    small = replace(
        settings,
        cells=CHUNK_ROWS * (SEQUENCES + 2),
        ubatch=CHUNK_ROWS,
        max_sequences=SEQUENCES,
        flash_attention=choice,
    )
    context = open_context(model, small)
    pool = attach_threadpool(context, settings.threads, settings.cpus)
    try:
        return _Trial(context, clock).run()
    finally:
        if pool is not None:
            pool.close()
        llama_cpp.llama_free(context)


class _Trial:
    """Times a step of one row that sees few cells, and many."""

    def __init__(self, context: Any, clock: Callable[[], float]) -> None:
        self._context = context
        self._clock = clock
        self._memory = llama_cpp.llama_get_memory(context)
        self._position = 0

    def run(self) -> DepthCost:
        if self._decode(CHUNK_ROWS) > LONGEST_CHUNK_S:
            raise TooSlow
        size = llama_cpp.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self._context, state, size, 0)
        copies = range(1, SEQUENCES)
        few = SHALLOW // CHUNK_ROWS
        self._copy(state, size, copies[: few - 1])
        shallow_s = self._one_row_s()
        self._copy(state, size, copies[few - 1 :])
        return DepthCost(shallow_s, self._one_row_s())

    def _copy(self, state: Any, size: int, seq_ids: range) -> None:
        """Fill more cells with the chunk and let sequence 0 see them too: a cell that a row does
        not see costs nothing with flash attention. That positions occur twice is no matter for
        the time."""
        for seq_id in seq_ids:
            if llama_cpp.llama_state_seq_set_data(self._context, state, size, seq_id) != size:
                raise ModelError("llama.cpp does not take back the state that it gave")
            llama_cpp.llama_memory_seq_cp(self._memory, seq_id, 0, 0, CHUNK_ROWS)

    def _one_row_s(self) -> float:
        # The first step of a shape also builds llama.cpp's graph.
        return min(self._decode(1) for _ in range(REPEATS))

    def _decode(self, rows: int) -> float:
        batch = llama_cpp.llama_batch_init(rows, 0, 1)
        try:
            batch.n_tokens = rows
            for at in range(rows):
                batch.token[at] = 0
                batch.pos[at] = self._position + at
                batch.n_seq_id[at] = 1
                batch.seq_id[at][0] = 0
                batch.logits[at] = at == rows - 1
            begin = self._clock()
            code = llama_cpp.llama_decode(self._context, batch)
            elapsed = self._clock() - begin
        finally:
            llama_cpp.llama_batch_free(batch)
        if code != 0:
            raise ModelError(f"llama_decode of {rows} rows returned {code}")
        self._position += rows
        return elapsed
