"""The search that atheris guides, a process of its own: libFuzzer ends the one it runs in.

Run as `python -m scripts.lib.fuzz.guided TARGET [libFuzzer's options and corpora]`. This file
imports nothing of qwend before it is to be watched.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.catalogue import Target

INPUT_BYTES = 16 * 1024
"""The longest input that is tried: what is longer is slow, and says nothing new."""
STUCK_S = 30
"""libFuzzer's own alarm, for what is stuck outside of Python."""


def is_there() -> bool:
    return importlib.util.find_spec("atheris") is not None


def corpus_of(target: str, environ: Mapping[str, str]) -> Path:
    """Where the inputs that reached something new are kept from run to run."""
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "qwend" / "fuzz" / target


def hunt_guided(target: Target, seconds: float, corpus: Path) -> tuple[int, list[bytes]]:
    """Run the search so long; return its exit status, and the inputs it could not survive.

    What a target raises is stored by the process itself; its output goes where ours goes.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="qwend-fuzz-", dir=_memory()) as work:
        seeds, fatal, temporary = (Path(work, name) for name in ("seeds", "fatal", "tmp"))
        for path in (seeds, fatal, temporary):
            path.mkdir()
        known = [path.read_bytes() for path in target.found]
        for number, data in enumerate([*target.seeds(), *known]):
            (seeds / str(number)).write_bytes(data)
        status = subprocess.run(
            [
                *(sys.executable, "-m", "scripts.lib.fuzz.guided", target.name),
                f"-max_total_time={max(1, round(seconds))}",
                f"-max_len={INPUT_BYTES}",
                # A seed that reaches no line of its own may have a field of another width.
                "-keep_seed=1",
                f"-timeout={STUCK_S}",
                f"-artifact_prefix={fatal}/",
                *("-verbosity=0", "-print_final_stats=1"),
                *(str(corpus), str(seeds)),
            ],
            # A hash that differs from run to run would make the same input reach other lines.
            # What a target has open when libFuzzer ends the process goes with our directory.
            env={**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": str(temporary)},
            check=False,
        ).returncode
        return status, [path.read_bytes() for path in sorted(fatal.iterdir())]


def _memory() -> Path | None:
    """Where files cost no disk, if there is such a place."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def main(name: str, *options: str) -> None:
    import atheris

    # What is imported from here on counts which of its lines an input has reached.
    with atheris.instrument_imports(include=["qwend", "tests.fuzz"]):
        from tests.fuzz.catalogue import load

        target = load(name)
    from scripts.lib.fuzz.hunt import Hunt

    atheris.Setup([sys.argv[0], *options], Hunt(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
