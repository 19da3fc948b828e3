"""`scripts/soak` as a program: a fifth of a minute of everything; more with QWEND_TEST_SOAK."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "soak"
MINUTES = os.environ.get("QWEND_TEST_SOAK", "0.2")
# How long a machine takes says nothing about whether it is right.
PATIENT = ("--patience", "90", "--quiet")


@pytest.mark.llama
@pytest.mark.row("J2")
@pytest.mark.timeout(300)
def test_a_short_soak_finds_nothing_wrong_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--minutes", MINUTES, "--out", str(tmp_path), *PATIENT],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "soak.json").read_text())
    assert told["findings"] == []
    assert {one["what"] for one in told["episodes"]} >= {"engine killed", "front killed"}
    assert sum(count for _, _, count in told["endings"]) > 0
    assert "| ok | wrong answers | 0 | 0 |" in (tmp_path / "soak.md").read_text()
    assert not list(tmp_path.glob("qwend-test-*"))


def test_help_says_what_it_does() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True
    )
    assert "Exits 1 if a bar is missed" in done.stdout


@pytest.mark.llama
@pytest.mark.timeout(300)
def test_an_interrupt_ends_it_with_the_report_so_far(tmp_path: Path) -> None:
    # 1. Start a run and wait until it disturbs the daemon. 2. SIGINT. 3. The report is there.
    command = [sys.executable, str(SCRIPT), "--minutes", "0.9", "--out", str(tmp_path)]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*command, "--patience", "90"], stderr=subprocess.PIPE, text=True, env=environ
    ) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("seed "):
                break
        run.send_signal(signal.SIGINT)
        run.stderr.read()
        assert run.wait() in (0, 1)
    assert "Ended early by Ctrl-C." in (tmp_path / "soak.md").read_text()
    assert not list(tmp_path.glob("qwend-test-*"))
