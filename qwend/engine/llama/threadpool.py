"""A persistent pool of compute threads for llama.cpp, each pinned to a CPU of its own.

A build without OpenMP otherwise makes new threads for every graph, and two threads that share a
CPU with a busy neighbour wait for each other at every barrier. llama-cpp-python does not bind
these calls; structures and names are from ggml.h, ggml-cpu.h and llama.h of the same build.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp

MAX_THREADS = 512  # GGML_MAX_N_THREADS, ggml.h


class _Params(ctypes.Structure):
    """struct ggml_threadpool_params, ggml.h"""

    _fields_ = [
        ("cpumask", ctypes.c_bool * MAX_THREADS),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    ]


class ThreadPool:
    """Attached to one context from `attach` to `close`; close it before the context is freed.

    cpus: the CPU of each thread; empty if they are not pinned.
    """

    def __init__(self, pool: int, libraries: _Libraries, context: Any, cpus: Sequence[int]) -> None:
        self.cpus = tuple(cpus)
        self._pool: int | None = pool
        self._libraries = libraries
        self._context = context

    def close(self) -> None:
        if self._pool is not None:
            self._libraries.llama.llama_detach_threadpool(self._context)
            self._libraries.cpu.ggml_threadpool_free(ctypes.c_void_p(self._pool))
            self._pool = None


class _Libraries:
    """The very libraries that llama_cpp has loaded.

    A wheel holds copies instead of links, and a copy is a second library with state of its own:
    opening libggml-cpu.so beside the libggml-cpu.so.0 that libllama needs halves the speed. So
    libllama is the handle that llama_cpp itself holds, and ggml's are the names libllama needs.
    """

    def __init__(self) -> None:
        folder = Path(llama_cpp.__file__).parent / "lib"
        self.base = ctypes.CDLL(_soname(folder, "libggml-base"))
        self.cpu = ctypes.CDLL(_soname(folder, "libggml-cpu"))
        self.llama = llama_cpp.llama_cpp._lib
        self.base.ggml_threadpool_params_init.argtypes = [ctypes.POINTER(_Params), ctypes.c_int]
        self.base.ggml_threadpool_params_init.restype = None
        self.cpu.ggml_threadpool_new.argtypes = [ctypes.POINTER(_Params)]
        self.cpu.ggml_threadpool_new.restype = ctypes.c_void_p
        self.cpu.ggml_threadpool_free.argtypes = [ctypes.c_void_p]
        self.cpu.ggml_threadpool_free.restype = None
        self.llama.llama_attach_threadpool.argtypes = [ctypes.c_void_p] * 3
        self.llama.llama_attach_threadpool.restype = None
        self.llama.llama_detach_threadpool.argtypes = [ctypes.c_void_p]
        self.llama.llama_detach_threadpool.restype = None


def built_with_openmp() -> bool:
    """True if this build brings its own threads, which cannot be replaced."""
    return b"OPENMP = 1" in llama_cpp.llama_print_system_info()


def attach_threadpool(context: Any, threads: int, cpus: Sequence[int]) -> ThreadPool | None:
    """Give the context its own threads, each on one of `cpus`; too few cpus: not pinned.

    Returns None where the build or the layout of the library does not allow it: the context then
    works with the threads that llama.cpp makes itself.
    """
    if built_with_openmp():
        return None
    try:
        libraries = _Libraries()
    except (OSError, AttributeError):
        return None
    params = _Params()
    libraries.base.ggml_threadpool_params_init(ctypes.byref(params), threads)
    pinned = cpus[:threads] if len(cpus) >= threads else ()
    for cpu in pinned:
        params.cpumask[cpu] = True
    params.strict_cpu = bool(pinned)
    pool = libraries.cpu.ggml_threadpool_new(ctypes.byref(params))
    if not pool:
        return None
    libraries.llama.llama_attach_threadpool(context, pool, pool)
    return ThreadPool(pool, libraries, context, pinned)


def _soname(folder: Path, name: str) -> str:
    versioned = folder / f"{name}.so.0"
    return str(versioned if versioned.exists() else folder / f"{name}.so")
