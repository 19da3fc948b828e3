"""A real tmpfs that is too small, or that others fill while the model is copied into it.

1. At each 5 % of the model's size so much is free before the copy. 2. At each 5 % of the copy
others take all that is left. Expected: refused with the figures and nothing left, or whole, for the
room of a copy is reserved before its first byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.row("D2")
SIZE = 20 * 64 * 1024
MOUNT = 'mount -t tmpfs -o size="$1",mode=700 tmpfs "$4" || exit 77; shift; exec "$0" -m "$@"'


def test_no_room_at_any_moment_leaves_half_a_copy(tmp_path: Path) -> None:
    model, mount = tmp_path / "model.gguf", tmp_path / "mount"
    model.write_bytes(os.urandom(SIZE))
    mount.mkdir()
    command = ["unshare", "-m", "sh", "-c", MOUNT, sys.executable, str(2 * SIZE)]
    done = subprocess.run(
        [*command, "tests.support.full_tmpfs", str(model), str(mount)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == 20
    whole = [hashlib.sha256(model.read_bytes()).hexdigest(), SIZE]
    for (error, left), meanwhile in outcomes:
        assert f"({SIZE} bytes)" in error
        assert "are free" in error
        assert left == 0
        assert meanwhile == whole
