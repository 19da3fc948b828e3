from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.row("I3")
def test_a_kill_before_each_change_of_the_disk_leaves_the_store_in_order(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.support.killed_steps", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    steps = [int(count) for count in re.findall(r"killed at (\d+) steps", done.stdout)]
    assert len(steps) == 4
    assert all(steps)
