"""One model made smaller: what makes sense, the run, and the check of what came out.

Rule 1: a result that the daemon would not be given is thrown away. Rule 2: this file does not know
what becomes of the result, nor what it is called in the end.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qwend.cli.pull_screen import PullScreen
from qwend.cli.quantizer import Quantizing, run_quantizer
from qwend.cli.result_file import ResultFile
from qwend.errors import ConfigError, ModelError
from qwend.models.ggml_types import FILE_TYPES
from qwend.models.header_check import GgufFacts, check_gguf
from qwend.models.pull.progress import Progress, Rate
from qwend.models.store import ModelFile, open_model

# Those that llama.cpp makes without an importance matrix (tensor_requires_imatrix, llama-quant.cpp)
# and that suit a Qwen; the first is the quickest on most CPUs.
# fmt: off
KINDS = (
    "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "IQ4_NL", "IQ4_XS",
    "Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0",
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "F16", "BF16",
)
# fmt: on
WHOLE = frozenset({"F32", "F16", "BF16"})
_FILE_TYPE_OF = {name: number for number, name in FILE_TYPES.items()}


@dataclass(frozen=True, slots=True)
class Source:
    """An open model that has passed the check. name: as people see it. by_path: given as one."""

    fd: int
    path: Path
    name: str
    by_path: bool
    facts: GgufFacts

    @property
    def bytes(self) -> int:
        return os.fstat(self.fd).st_size


def known(text: str) -> str:
    """The type as it is written. Raises: ConfigError with those that can be made."""
    kind = text.upper()
    if kind not in KINDS:
        why = " needs an importance matrix, or suits no Qwen" if kind in _FILE_TYPE_OF else ""
        raise ConfigError(f"--to cannot be {text!r}{why}; known are {', '.join(KINDS)}")
    return kind


def opened(model: ModelFile, by_path: bool, any_architecture: bool, held: ExitStack) -> Source:
    """held: closes it in the end. Raises: ModelError if the daemon would not take it."""
    fd = open_model(model.path)
    held.callback(os.close, fd)
    facts = _checked(fd, model.path.name, any_architecture)
    return Source(fd, model.path, model.name, by_path, facts)


def check_sense(source: Source, kind: str, requantize: bool) -> None:
    """Raises: ConfigError where the result would be no use."""
    has = source.facts.quantization
    if has == kind:
        raise ConfigError(f"{source.name} is {kind} already")
    quantized = sorted(source.facts.matrix_bytes.keys() - WHOLE)
    if quantized and not requantize:
        raise ConfigError(
            f"{source.name} is quantized already ({has}), and what that has lost does not come "
            "back: give a source in F16, BF16 or F32, or --requantize to take it all the same"
        )


@dataclass(frozen=True, slots=True)
class Quantization:
    """What is to be done, but for where the result goes."""

    source: Source
    kind: str
    requantize: bool
    any_architecture: bool
    screen: PullScreen

    def run(self, result: ResultFile, name: str) -> None:
        """Fill the file, and check what is in it then. name: what people are told it is.

        Raises: ModelError, FetchError; KeyboardInterrupt.
        """
        rate, size = Rate(time.monotonic), 0

        def planned(tensor_bytes: int) -> None:
            nonlocal size
            header = self.source.bytes - self.source.facts.tensor_bytes
            size = tensor_bytes + header if tensor_bytes else 0
            result.check_room(size)

        def progress(tensor: int, count: int) -> None:
            done = result.bytes
            pace = rate.note(done)
            left = max(size - done, 0) / pace if size and pace else None
            self.screen.progress(
                Progress("quantizing", name, tensor, count, done, max(size, done), pace, left)
            )

        job = Quantizing(self.source.fd, result.fd, _FILE_TYPE_OF[self.kind], self.requantize)
        try:
            run_quantizer(job, planned=planned, progress=progress)
        except ModelError:
            result.check_room(size)  # a full disk is what llama.cpp has no words for
            raise
        self._check(result, name)

    def _check(self, result: ResultFile, name: str) -> None:
        before = self.source.facts
        try:
            made = _checked(result.fd, name, self.any_architecture)
        except ModelError as error:
            raise ModelError(f"what came out was thrown away: {error}") from error
        if (made.quantization, made.parameter_count) != (self.kind, before.parameter_count):
            raise ModelError(
                f"what came out was thrown away: {made.parameter_count} parameters in "
                f"{made.quantization}, not {before.parameter_count} in {self.kind}"
            )


def _checked(fd: int, name: str, any_architecture: bool) -> GgufFacts:
    size = os.fstat(fd).st_size
    return check_gguf(fd, size, path=name, allow_any_architecture=any_architecture)
