"""The bench model: made once, checked as the daemon would check it, and kept in the cache."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

from qwend.models import check_gguf

from .cache import cache_dir, written_whole
from .llama_source import SourceError, qwen_vocabulary
from .qwen_shape import SHAPES, QwenShape

SEED = 1
QUANTIZATIONS = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15}  # llama_ftype, llama.h
# Rows that llama.cpp keeps in memory while it quantizes; its default of 8 GiB is a whole machine.
QUANTIZE_BUFFER_BYTES = 256 << 20


def bench_model_path(shape: str, quantization: str, cache: Path | None = None) -> Path:
    """Where the cache keeps it; it may not be there yet. "v1": changes with what is written."""
    return (cache or cache_dir()) / f"qwen2.5-{shape}-shape-{quantization}-v1.gguf"


def bench_model(
    shape: str, quantization: str, target: Path | None = None, cache: Path | None = None
) -> Path:
    """Path of the bench model; made if it is not there: a minute for 0.5b, tens of them for 7b."""
    cache = cache or cache_dir()
    target = target or bench_model_path(shape, quantization, cache)
    if target.is_file():
        return target
    _make(SHAPES[shape], quantization, target, cache)
    return target


def _make(shape: QwenShape, quantization: str, target: Path, cache: Path) -> None:
    from .random_weights import write_random_model

    vocabulary = qwen_vocabulary(cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_space(shape, target.parent)
    f16 = target.with_name(f".{target.name}.{os.getpid()}.f16")
    try:
        _say(f"writing random weights of the shape of {shape.name}")
        write_random_model(shape, vocabulary, f16, SEED)
        with written_whole(target) as temporary:
            _say(f"quantizing to {quantization}")
            _quantize(f16, temporary, QUANTIZATIONS[quantization])
            with temporary.open("rb") as file:
                facts = check_gguf(file, temporary.stat().st_size, path=str(temporary))
    finally:
        f16.unlink(missing_ok=True)
    _say(f"made: {facts.parameter_count / 1e6:.0f} M parameters, {facts.quantization}")


def _check_space(shape: QwenShape, directory: Path) -> None:
    parameters = sum(_count(dims) for _, dims in shape.tensors())
    needed, free = 3 * parameters + (256 << 20), shutil.disk_usage(directory).free
    if needed > free:
        raise SourceError(
            f"making this model takes {needed >> 20} MiB in {directory} for a while and "
            f"{free >> 20} MiB are free; free some, or use --out or XDG_CACHE_HOME"
        )


def _count(dims: tuple[int, ...]) -> int:
    product = 1
    for dim in dims:
        product *= dim
    return product


def _quantize(source: Path, target: Path, file_type: int) -> None:
    import llama_cpp

    def write(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
        if level == 4:  # GGML_LOG_LEVEL_ERROR; below it are several lines per tensor
            sys.stderr.write(text.decode("utf-8", "replace"))

    log = llama_cpp.llama_log_callback(write)  # ctypes does not keep it alive: this name does
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.nthread = len(os.sched_getaffinity(0))
    params.max_buf_size = QUANTIZE_BUFFER_BYTES
    code = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if code != 0:
        raise SourceError(f"llama.cpp could not quantize {source} (code {code}, see above)")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
