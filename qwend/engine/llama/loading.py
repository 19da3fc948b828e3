"""From a file to a model and a context, with llama.cpp's own log kept to what explains a failure.

Owns the handles until the backend takes them. The file has passed our own header check before:
llama.cpp ends the process on many kinds of broken file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qwend.engine.complaint import complain
from qwend.engine.drafting import MOST_DRAFTS
from qwend.engine.llama.abort import say_why_it_aborts
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.llama.memory import areas, release_file, release_zeros
from qwend.engine.settings import EngineStart
from qwend.errors import ModelError

_ERROR, _CONTINUED = 4, 5  # enum ggml_log_level, ggml.h

FLASH_ATTENTION = {
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
}
KV_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}


# Of a line of llama.cpp's log; what explains a failure has about 150.
LINE_CHARACTERS = 500
# Part of the loading after which the pages that were read are let go of.
RELEASE_EACH = 0.1

# llama.cpp has one log callback for the process and keeps only its address: whatever was given to
# it must live as long as the process, or the next message is a segmentation fault.
_given_to_llama: list[Any] = []


class NativeLog:
    """Keeps llama.cpp's last error lines, so that a failure can be told in its own words.

    Only errors reach standard error: the log belongs to the operator, and llama.cpp prints
    hundreds of lines at every start, warnings about sound models among them.
    """

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._level = 0
        callback = llama_cpp.llama_log_callback(self._write)
        _given_to_llama.append(callback)
        llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))

    def _write(self, level: int, text: bytes, _user_data: Any) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level == _ERROR:
            line = told(text)
            self._errors = [*self._errors[-3:], line]
            complain(line)

    @property
    def last_errors(self) -> str:
        return "; ".join(line for line in self._errors if line) or "llama.cpp gave no reason"


def told(text: bytes) -> str:
    """A line of llama.cpp's that may be shown: it quotes the file, which may say anything."""
    line = text.decode("utf-8", "replace").strip()
    line = "".join(one if one.isprintable() else "?" for one in line[: LINE_CHARACTERS + 1])
    return line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]} ..."


@dataclass(frozen=True, slots=True)
class Loaded:
    """model / context: handles, to be freed in reverse order."""

    model: Any
    context: Any


def load(settings: EngineStart, progress: Callable[[float], None]) -> Loaded:
    """Load model and context. progress: called with 0..1 while the weights are read.

    Raises: ModelError in llama.cpp's own words.
    """
    model = load_model(settings, progress)
    try:
        return Loaded(model, open_context(model, settings))
    except ModelError:
        llama_cpp.llama_model_free(model)
        raise


def load_model(settings: EngineStart, progress: Callable[[float], None]) -> Any:
    """The model without a context; who calls this frees it. Raises: ModelError, as `load`."""
    log = NativeLog()
    say_why_it_aborts()
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = settings.gpu_layers
    # Never llama.cpp's own locking: it locks what of the file is not used any more, and not the
    # repacked weights, whose buffers it does not count as memory of the host. See lock.py.
    params.load_mode = (
        llama_cpp.LLAMA_LOAD_MODE_MMAP if settings.mapped else llama_cpp.LLAMA_LOAD_MODE_NONE
    )
    safe = repacking_is_safe(llama_cpp.llama_print_system_info())
    params.use_extra_bufts = settings.repack and safe
    callback = llama_cpp.llama_progress_callback(_reporter(progress, settings.model))
    params.progress_callback = callback
    model = llama_cpp.llama_model_load_from_file(settings.model.encode(), params)
    if not model:
        raise ModelError(f"llama.cpp cannot load the model: {log.last_errors}")
    release_file(settings.model)
    return model


def open_context(model: Any, settings: EngineStart) -> Any:
    """A context on a loaded model, to be freed before it. Raises: ModelError, as `load`."""
    log = NativeLog()
    before = areas()
    context = llama_cpp.llama_init_from_model(model, _context_params(settings))
    if not context:
        raise ModelError(
            f"llama.cpp cannot make a context of {settings.cells} tokens: {log.last_errors}. "
            "If memory is short, lower `context` under [model]"
        )
    release_zeros(before)
    return context


def repacking_is_safe(system_info: bytes) -> bool:
    """False for a build with AMX: compiled by GCC before 15 it ends the process on a batch of two
    rows (see scripts/lib/prepare/machine.py). Without repacked weights AMX is not used.

    system_info: what llama_print_system_info says.
    """
    return b"AMX_INT8 = 1" not in system_info


def most_outputs(settings: EngineStart) -> int:
    """Rows of one step that may want logits: llama.cpp ends the process on more."""
    # Each sequence is sampled at one row of a step, and draft tokens at one each; the buffers for
    # more are 0.6 MB a row.
    return max(settings.max_sequences, 1 + MOST_DRAFTS)


def _reporter(progress: Callable[[float], None], path: str) -> Callable[[float, Any], bool]:
    released = 0.0

    def report(fraction: float, _user_data: Any) -> bool:
        nonlocal released
        if fraction - released >= RELEASE_EACH:
            # What has been repacked is not read again: the peak stays near what is used.
            release_file(path)
            released = fraction
        progress(fraction)
        return True

    return report


def _context_params(settings: EngineStart) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = settings.cells
    # One step is one micro-batch: a step stays short, and a refused batch leaves nothing behind.
    params.n_batch = params.n_ubatch = settings.ubatch
    params.n_seq_max = settings.max_sequences
    params.n_outputs_max = most_outputs(settings)
    params.n_threads = params.n_threads_batch = settings.threads
    params.flash_attn_type = FLASH_ATTENTION[settings.flash_attention]
    params.type_k = params.type_v = KV_TYPES[settings.kv_type]
    params.kv_unified = True
    params.no_perf = True
    return params
