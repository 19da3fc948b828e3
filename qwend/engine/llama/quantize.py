"""A process of its own that quantizes one file with llama.cpp's quantizer, and tells how far it is.

    python -P -m qwend.engine.llama.quantize SOURCE TARGET FILE_TYPE REQUANTIZE PARENT

SOURCE, TARGET: descriptors, so that what was checked is what is read. FILE_TYPE: an llama_ftype.
On standard output, a line each: `size BYTES`, what all tensors will take, and then it waits for a
line on standard input; `tensor N COUNT` whenever one begins. It exits with 0 when all is written;
otherwise the reason is on standard error, in llama.cpp's words.

Rule 1: it never outlives who started it, leaves no core, and gives way to everybody else.
Rule 2: it does not know names, stores or what makes a file good; who started it does.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

from qwend.engine.complaint import complain
from qwend.engine.llama.abort import say_why_it_aborts
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.startable_threads import startable_threads

PR_SET_PDEATHSIG = 1  # prctl(2)
NICE = 10  # a daemon beside it keeps nine tenths of a CPU that both want (sched(7), weights)
OOM_SCORE_ADJ = 1000  # the first to go when memory runs out: before any engine (500), or a daemon
# Rows are converted in slabs of so much; llama.cpp's own limit of 8 GiB takes 0.8 GiB for the
# embedding of 0.5B.
SLAB_BYTES = 64 << 20

_ERROR, _CONTINUED = 4, 5  # enum ggml_log_level, ggml.h
# As llama-quant.cpp writes them.
_TENSOR = re.compile(rb"\[ *(\d+)/ *(\d+)\] ")
_SIZE = re.compile(rb"quant size *= *([0-9.]+) MiB")


class Log:
    """llama.cpp's log callback: progress goes to standard output, errors to standard error."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._planning = True
        self._level = 0
        # llama.cpp keeps its address alone: it lives as long as this object, which is the process.
        self._callback = llama_cpp.llama_log_callback(self._write)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def planned(self) -> None:
        """From now on tensors are computed."""
        self._planning = False

    def _write(self, level: int, text: bytes, _user_data: Any) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level == _ERROR:
            complain(text.decode("utf-8", "replace").strip())
        elif self._planning:
            if found := _SIZE.search(text):
                self.size_bytes = round(float(found[1]) * 2**20)
        elif found := _TENSOR.match(text):
            tell(f"tensor {int(found[1])} {int(found[2])}")


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def quantize(source: int, target: int, file_type: int, *, requantize: bool, plan: bool) -> bool:
    """plan: only find out what it would take. Returns whether llama.cpp did it."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.allow_requantize = requantize
    params.dry_run = plan
    params.max_buf_size = SLAB_BYTES
    params.nthread = startable_threads(len(os.sched_getaffinity(0)))
    paths = (f"/proc/self/fd/{descriptor}".encode() for descriptor in (source, target))
    return bool(llama_cpp.llama_model_quantize(*paths, ctypes.byref(params)) == 0)


def main(argv: list[str]) -> int:
    source, target, file_type, requantize, parent = (int(word) for word in argv)
    if not _prepare_process(parent):
        return 1
    say_why_it_aborts()
    log = Log()
    llama_cpp.llama_backend_init()
    if not quantize(source, target, file_type, requantize=bool(requantize), plan=True):
        return 1
    tell(f"size {log.size_bytes}")
    if not sys.stdin.readline():
        return 1
    log.planned()
    return not quantize(source, target, file_type, requantize=bool(requantize), plan=False)


def _prepare_process(parent: int) -> bool:
    """False: who started it is dead already."""
    # Ctrl-C in a terminal reaches the whole group; who started it decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJ))
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
