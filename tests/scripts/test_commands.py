"""The scripts as programs: what they say without doing anything heavy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scripts.bench_support.bench_model import bench_model_path
from scripts.bench_support.llama_source import llama_version

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qwend" / "bench"
MODEL = bench_model_path("0.5b", "Q4_0", CACHE)
PEER = CACHE / f"build-{llama_version()}" / "bin" / "llama-bench"
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPTS / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", [["make-bench-model"], ["bench"], ["bench", "decode"]])
def test_help_is_given(command: list[str]) -> None:
    done = run(*command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")


def test_a_scenario_must_be_named() -> None:
    assert run("bench").returncode == 2


def test_the_last_line_is_the_path_of_the_model(tmp_path: Path) -> None:
    there = tmp_path / "qwend" / "bench" / "qwen2.5-3b-shape-Q8_0-v1.gguf"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"made before")
    pytest.importorskip("gguf")
    done = run("make-bench-model", "--shape", "3b", "--quant", "Q8_0", XDG_CACHE_HOME=str(tmp_path))
    assert done.stdout.splitlines()[-1] == str(there)
    assert "not for text" in done.stdout


def test_a_missing_package_is_named_with_what_to_install() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.argv = ['bench-x'];"
        "from bench_support.interpreter import use_environment;"
        "use_environment('no_such_package')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPTS)],
        capture_output=True,
        text=True,
        env={**os.environ, "QWEND_SCRIPT_REEXECUTED": "1"},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "bench-x: " in done.stderr
    assert "lacks no_such_package" in done.stderr
    assert "[bench]" in done.stderr


@pytest.mark.llama
@pytest.mark.skipif(
    not (MODEL.exists() and PEER.exists()), reason="nothing made yet: run scripts/bench decode once"
)
def test_a_scenario_that_is_ended_takes_its_daemon_with_it(tmp_path: Path) -> None:
    # 1. Start `bench decode` and wait until its daemon listens. 2. SIGTERM. 3. Both are gone, and
    # so is the directory they lived in.
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(SCRIPTS / "bench"), "decode", "--model", str(MODEL)]
    with subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL) as bench:
        while not list(tmp_path.glob("*/run/qwend.sock")):
            assert bench.poll() is None
            time.sleep(0.02)
        (daemon, *_) = psutil.Process(bench.pid).children()
        bench.terminate()
        assert bench.wait(60) == 128 + signal.SIGTERM
    assert not daemon.is_running()
    assert list(tmp_path.iterdir()) == []
