"""`bench peers` as a program: what it says without starting a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
EMPTY: dict[str, object] = {"rows": [], "scenarios": [], "step_ms": {}}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "bench"), *arguments],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["peers", "--help"], ["--peer", "none", "--help"]])
def test_peer_alone_is_short_for_peers(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: bench peers ")


def test_a_letter_that_does_not_exist_is_refused_with_those_that_do() -> None:
    done = run("peers", "--only", "a,Z,b2")
    assert done.returncode == 2
    assert "no scenario Z; there are A, B, B2, B3, C, D, E, F, G" in done.stderr


def test_plots_of_a_former_result_are_drawn_without_measuring(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(json.dumps(EMPTY))
    done = run("peers", "--redraw", str(result), "--plots", str(tmp_path / "plots"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "plots").is_dir()


def test_a_result_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("peers", "--redraw", str(tmp_path / "none.json"))
    assert done.returncode == 1
    assert done.stderr.startswith("bench peers: ")
    assert "none.json" in done.stderr
