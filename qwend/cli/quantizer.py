"""The process that quantizes, as who starts it sees it: its plan, its progress, its end.

Rule 1: whatever happens here, it is dead when this returns or raises.
Rule 2: this file does not know what is quantized, nor what becomes of the result.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from qwend.errors import ModelError

WORKER = [sys.executable, "-P", "-m", "qwend.engine.llama.quantize"]
# How often a bar moves within a tensor: one of 3B takes half a minute on a Raspberry Pi.
EACH_S = 0.25
_MOST_WORDS = 400  # characters of llama.cpp's last line, in a message


@dataclass(frozen=True, slots=True)
class Quantizing:
    """source, target: open files. file_type: as `general.file_type` has it."""

    source: int
    target: int
    file_type: int
    requantize: bool


def run_quantizer(
    job: Quantizing, *, planned: Callable[[int], None], progress: Callable[[int, int], None]
) -> None:
    """planned: told how many bytes all tensors will take (0: unknown), before anything is written;
    what it raises ends the run. progress: told the tensor under way, and how many there are.

    Raises: ModelError of code quantizer_failed, in llama.cpp's words; quantizer_died.
    """
    numbers = (job.source, job.target, job.file_type, int(job.requantize), os.getpid())
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            [*WORKER, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            pass_fds=(job.source, job.target),
            bufsize=0,
        ) as process,
    ):
        try:
            _watch(process, planned, progress)
            process.wait()
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            raise _failed(process.returncode, complaints)


def _watch(
    process: subprocess.Popen[bytes],
    planned: Callable[[int], None],
    progress: Callable[[int, int], None],
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    tensor, count = 0, 0
    for line in _lines(process.stdout.fileno()):
        match line.split():
            case [b"size", size]:
                planned(int(size))
                _go_on(process.stdin)
            case [b"tensor", number, of]:
                tensor, count = int(number), int(of)
        if count:
            progress(tensor, count)


def _go_on(stdin: IO[bytes]) -> None:
    with suppress(BrokenPipeError):  # it has died, and its status will say how
        stdin.write(b"go\n")


def _lines(descriptor: int) -> Iterator[bytes]:
    """Lines as they come, and an empty one whenever none has come for a moment."""
    rest = b""
    while True:
        if not select.select([descriptor], [], [], EACH_S)[0]:
            yield b""
            continue
        data = os.read(descriptor, 4096)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _failed(status: int, complaints: IO[bytes]) -> ModelError:
    complaints.seek(0)
    lines = complaints.read().decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "it gave no reason")
    words = words[:_MOST_WORDS]
    if status < 0:
        name = signal.Signals(-status).name
        said = f": {words}" if words != "it gave no reason" else ""
        short = "; was memory short?" if -status == signal.SIGKILL else ""
        return ModelError(f"the quantizer was ended by {name}{short}{said}", code="quantizer_died")
    return ModelError(f"llama.cpp cannot quantize it: {words}", code="quantizer_failed")
