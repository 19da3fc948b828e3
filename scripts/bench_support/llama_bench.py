"""llama.cpp's own llama-bench, run: the yardstick of raw speed.

No sockets, no sampling beyond a random token, no scheduler. How it is built: `llama_build`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .llama_build import llama_program
from .llama_source import SourceError


@dataclass(frozen=True, slots=True)
class LlamaBenchRun:
    """One `llama-bench -p 0 -n N` measurement."""

    tokens_per_s: float
    spread_tokens_per_s: float


def llama_bench(cache: Path | None = None) -> Path:
    """The llama-bench program, built if it is not there. Raises: SourceError."""
    return llama_program("llama-bench", cache)


def run_llama_bench(
    program: Path,
    model: Path,
    *,
    threads: int,
    tokens: int,
    flash_attention: str,
    repetitions: int = 1,
) -> LlamaBenchRun:
    """Decode `tokens` tokens after an empty prompt; llama-bench warms up by itself.

    flash_attention: "on", "off", or "auto": its default, which turns it on where it can.
    """
    command = [str(program), "-m", str(model), "-p", "0", "-n", str(tokens), "-t", str(threads)]
    command += ["-fa", flash_attention, "-r", str(repetitions), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SourceError(f"llama-bench failed ({done.returncode}): {done.stderr[-500:]}")
    (row,) = json.loads(done.stdout)
    return LlamaBenchRun(
        tokens_per_s=float(row["avg_ts"]),
        spread_tokens_per_s=float(row["stddev_ts"]),
    )
