"""Persistent compute threads for llama.cpp, each pinned to a CPU of its own.

A build without OpenMP otherwise makes new threads for every graph, and two threads that share a
CPU with a busy neighbour wait for each other at every barrier. llama-cpp-python does not bind
these calls; structures and names are from ggml.h, ggml-cpu.h and llama.h of the same build.

A CPU can go offline or out of the cpuset while we run. The kernel moves a thread off it; but a
thread that is then to be pinned to it is not, and stays on the one CPU of the thread that made it.

There is a pool for each number of threads that was used, and all but one sleep. In one large pool
a step with fewer threads wakes the others too, and each then spins for 6.5 million rounds, longer
than a step takes (ggml_graph_compute_poll_for_work, ggml-cpu.c, poll = 50). When a context gets
another pool, llama.cpp pauses the one it had (ggml_backend_cpu_set_threadpool), and the first step
with a paused pool pins the calling thread as that pool wants it (ggml_graph_compute_kickoff).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.startable_threads import startable_threads
from qwend.errors import EngineBug

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
    """Attached to one context from `attach_threadpool` to `close`, with as many threads as `use`
    said last; close it before the context is freed.

    cpus: the CPU of each thread when all are used; empty if they are not pinned.
    """

    def __init__(
        self, libraries: _Libraries, context: Any, threads: int, cpus: Sequence[int]
    ) -> None:
        self.cpus = tuple(cpus)
        self.threads = threads
        self._libraries = libraries
        self._context = context
        self._pools: dict[tuple[int, tuple[int, ...]], int] = {}

    def use(self, threads: int) -> None:
        """Compute with so many threads from the next step on; the count of the context is not
        changed. Raises: EngineBug."""
        if not 1 <= threads <= self.threads:
            raise EngineBug(f"{threads} threads of {self.threads}")
        allowed = allowed_cpus()
        usable = tuple(cpu for cpu in self.cpus if allowed is None or cpu in allowed)
        pool = self._pools.get((threads, usable))
        if pool is None and self._pools and startable_threads(threads) < threads:
            return  # the pool in use serves as well, and llama.cpp would end the process
        if pool is None:
            pool = self._pools[threads, usable] = self._make(threads, usable)
        attached = ctypes.c_void_p(pool)
        self._libraries.llama.llama_attach_threadpool(self._context, attached, attached)

    def close(self) -> None:
        if self._pools:
            self._libraries.llama.llama_detach_threadpool(self._context)
        for pool in self._pools.values():
            self._libraries.cpu.ggml_threadpool_free(ctypes.c_void_p(pool))
        self._pools.clear()

    def _make(self, threads: int, cpus: tuple[int, ...]) -> int:
        params = _Params()
        self._libraries.base.ggml_threadpool_params_init(ctypes.byref(params), threads)
        # A thread alone waits for nobody, so the kernel may move it away from a busy neighbour. It
        # also decides where there is no CPU for each.
        pinned = 1 < threads <= len(cpus)
        for cpu in cpus[:threads] if pinned else cpus:
            params.cpumask[cpu] = True
        params.strict_cpu = pinned
        # Asleep until the first step with it, which then also pins the calling thread anew.
        params.paused = True
        pool: int | None = self._libraries.cpu.ggml_threadpool_new(ctypes.byref(params))
        if not pool:
            raise EngineBug(f"llama.cpp makes no pool of {threads} threads")
        return pool


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
        self.llama = llama_cpp._lib
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


def allowed_cpus() -> set[int] | None:
    """The CPUs that our process may use now; None: not known. They are asked for the process that
    started us, for this thread is pinned to one of them."""
    try:
        return os.sched_getaffinity(os.getppid())
    except OSError:
        return None


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
    pool = ThreadPool(libraries, context, threads, cpus[:threads] if len(cpus) >= threads else ())
    pool.use(threads)
    return pool


def _soname(folder: Path, name: str) -> str:
    versioned = folder / f"{name}.so.0"
    return str(versioned if versioned.exists() else folder / f"{name}.so")
