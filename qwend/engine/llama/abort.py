"""What llama.cpp says when it ends the process, said without waiting for whoever reads it.

By itself it writes to standard error, which may wait, and calls a debugger for a backtrace, which
may hang; only then it calls abort (ggml_abort, ggml.c). With a callback it does neither.
"""

from __future__ import annotations

import ctypes

from qwend.engine.complaint import complain
from qwend.engine.llama.bindings import llama_cpp

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _say(message: bytes) -> None:
    complain(f"qwend engine: llama.cpp ends the process: {message.decode('utf-8', 'replace')}")


# llama.cpp keeps its address alone: it lives as long as the process.
_SAY = _Callback(_say)


def say_why_it_aborts() -> None:
    """For all aborts of this process from now on; a build that cannot do it goes on as it is."""
    # libllama is linked to the library that has it, so that one is found through its handle.
    set_callback = getattr(llama_cpp._lib, "ggml_set_abort_callback", None)
    if set_callback is not None:
        set_callback.argtypes, set_callback.restype = [_Callback], ctypes.c_void_p
        set_callback(_SAY)
