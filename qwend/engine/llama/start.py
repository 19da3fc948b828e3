"""From settings to a backend that is ready: load, choose flash attention, calibrate, keep it.

What was measured at an earlier start of the same model, machine and build is confirmed by one step
instead of measured again; see calibration_cache.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qwend.engine.calibration import Calibration, calibrate
from qwend.engine.calibration_cache import CalibrationCache, Kept, cache_key, cpu_model
from qwend.engine.llama.backend import LlamaBackend, backend_over
from qwend.engine.llama.bindings import VERSION, llama_cpp
from qwend.engine.llama.flash_attention import measured_flash_attention
from qwend.engine.llama.loading import open_context
from qwend.engine.llama.weights import WeightsMemory, load_weights
from qwend.engine.settings import EngineStart
from qwend.engine.startable_threads import startable_threads
from qwend.errors import ModelError

# Settings that change what a step costs.
COSTLY = (
    "threads",
    "cpus",
    "flash_attention",
    "kv_type",
    "ubatch",
    "cells",
    "max_sequences",
    "repack",
)


@dataclass(frozen=True, slots=True)
class Started:
    """flash_attention: on or off, as it was chosen. memory: of the weights, for `status`."""

    backend: LlamaBackend
    calibration: Calibration
    flash_attention: str
    memory: WeightsMemory


def start_llama(
    settings: EngineStart,
    loading: Callable[[float], None],
    calibrating: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> Started:
    """loading: told the part that is loaded, 0..1. calibrating: told when that begins.

    Raises: ModelError.
    """
    settings = _with_startable_threads(settings)
    key = _key(settings)
    cache = CalibrationCache(Path(settings.kept_dir)) if settings.kept_dir else None
    kept = cache.load(key) if cache else None
    model, memory = load_weights(settings, loading)
    try:
        calibrating()
        flash, certain = _flash_attention(model, settings, kept, clock)
        chosen = replace(settings, flash_attention=flash)
        context = open_context(model, chosen)
    except BaseException:
        llama_cpp.llama_model_free(model)
        raise
    backend = backend_over(model, context, chosen)
    if kept is not None:
        backend.end_tokens = kept.end_tokens
    calibration = calibrate(
        backend,
        clock,
        kept.calibration if kept else None,
        threads=settings.threads,
        measured_at=time.time(),
    )
    if kept is None:
        # Later it is the copy in memory that may be bad, which a death finds and mends.
        check_numbers(context, backend.facts.vocab_size)
    # With fewer threads than planned it may have had company, and that is not worth keeping.
    whole = calibration.threads == settings.threads and not settings.in_company
    if cache and certain and whole and not calibration.kept:
        size = os.stat(settings.model).st_size
        cache.store(key, Kept(calibration, flash, backend.end_tokens, size))
    return Started(backend, calibration, flash, memory)


def check_numbers(context: object, vocab_size: int) -> None:
    """See that the last row computed has logits that are numbers: every matrix takes part in them.

    A file that was damaged before it was first hashed is found here, and by nothing else.
    Raises: ModelError.
    """
    pointer = llama_cpp.llama_get_logits_ith(context, -1)
    if pointer and not np.isfinite(np.ctypeslib.as_array(pointer, (vocab_size,))).all():
        raise ModelError(
            "the model computes numbers that are none: its file is damaged; download it again"
        )


def _with_startable_threads(settings: EngineStart) -> EngineStart:
    """The same, with no more threads than a limit on processes leaves us."""
    threads = startable_threads(settings.threads)
    if threads == settings.threads:
        return settings
    return replace(settings, threads=threads, cpus=settings.cpus[:threads])


def _flash_attention(
    model: object, settings: EngineStart, kept: Kept | None, clock: Callable[[], float]
) -> tuple[str, bool]:
    """On or off, and whether that is certain enough to be kept."""
    if settings.flash_attention != "auto":
        return settings.flash_attention, True
    if settings.kv_type != "f16":
        return "on", True  # a quantized cache is computed by that kernel only
    if settings.gpu_layers:
        return "auto", True  # llama.cpp knows its GPUs
    if kept is not None and kept.flash_attention:
        return kept.flash_attention, True
    measured = measured_flash_attention(model, settings, clock)
    return measured or "off", measured is not None


def _key(settings: EngineStart) -> str:
    return cache_key(
        model=settings.fingerprint,
        build=llama_cpp.llama_print_system_info().decode("utf-8", "replace"),
        version=VERSION,
        settings={name: getattr(settings, name) for name in COSTLY},
        cpu=cpu_model(),
        affinity=frozenset(os.sched_getaffinity(0)),
    )
