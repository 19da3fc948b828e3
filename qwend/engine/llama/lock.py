"""The weights locked against swap, as far as they are used and the limits allow.

llama.cpp's own locking (LLAMA_LOAD_MODE_MMAP_MLOCK) holds the wrong half when weights are repacked:
it locks the file from its start to the last tensor that is computed from the file, with all the
pages between that are not read again, and leaves out the buffers of repacked weights, which its
backend does not report as memory of the host (ggml_backend_buffer_is_host). Here pages are locked
on their first use, mlock2(2) with MLOCK_ONFAULT, and repacked weights first.
"""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from dataclasses import dataclass

from qwend.engine.llama.memory import Area, added, areas, file_areas

MLOCK_ONFAULT = 1  # mlock2(2)
# Less is no buffer of weights.
LEAST_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mlock2.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint]


@dataclass(frozen=True, slots=True)
class Locked:
    """bytes: what may not be swapped, once it is used. refused: why it is not more, in words."""

    bytes: int
    refused: str


def lock_weights(before: list[Area], path: str) -> Locked:
    """Lock what was allocated since `before`, and where the model's file is mapped.

    before: `areas()` as they were when nothing was loaded.
    """
    _raise_limit()
    own = list(added(before, areas()))
    mapped = [(area.start, area.end) for area in file_areas(path)]
    locked = 0
    spans = [span for span in (*own, *mapped) if span[1] - span[0] >= LEAST_BYTES]
    for start, end in spans:
        if _libc.mlock2(start, end - start, MLOCK_ONFAULT) != 0:
            error = ctypes.get_errno()
            wanted = sum(end - start for start, end in spans)
            return Locked(locked, _refusal(error, wanted))
        locked += end - start
    return Locked(locked, "")


def _raise_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))


def _refusal(error: int, wanted: int) -> str:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    wants = f"{wanted >> 20} MiB are to be locked"
    if limit == resource.RLIM_INFINITY:
        return f"{wants}: {os.strerror(error)}"
    return f"{wants}, RLIMIT_MEMLOCK allows {limit >> 20} MiB"
