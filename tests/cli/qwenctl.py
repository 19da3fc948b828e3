"""Run the real `qwenctl` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

QWENCTL = [sys.executable, "-m", "qwend.cli.main"]


def qwenctl(
    *arguments: str, socket: Path | str, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, without a stdin unless `input` or `stdin` is given."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [*QWENCTL, "--socket", str(socket), *arguments],
        env=dict(os.environ if env is None else env),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )
