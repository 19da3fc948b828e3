"""llama.cpp is built once, whole or not at all; a second run and a second clone are quick."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.scripts_quickstart.clone import (
    PYTHON,
    Clone,
    end,
    make_clone,
    processes_below,
    wait_until,
)

BUILT = ["wheel", "install", "install"]


def test_the_first_run_builds_and_the_second_does_nothing(clone: Clone) -> None:
    assert clone.prepare().returncode == 0
    assert [call for call in clone.pip_calls if call != "--version"] == BUILT
    calls = clone.pip_calls

    assert clone.prepare().returncode == 0
    assert clone.pip_calls == calls


def test_the_build_leaves_amx_out_and_keeps_the_callers_flags(clone: Clone) -> None:
    clone.prepare(CXXFLAGS="-O1 -g")

    assert clone.cxx_flags == ["-O1", "-g", "-U__AMX_INT8__"]


def test_a_second_clone_takes_the_wheel_from_the_cache(clone: Clone, tmp_path: Path) -> None:
    clone.prepare()

    assert make_clone(tmp_path, "second").prepare().returncode == 0

    assert clone.pip_calls.count("wheel") == 1


def test_extras_are_added_once_and_then_kept(clone: Clone) -> None:
    clone.prepare()
    clone.prepare("--extras", "dev")
    calls = len(clone.pip_calls)

    clone.prepare()
    clone.prepare("--extras", "dev")

    assert len(clone.pip_calls) == calls


def test_other_requirements_are_installed_without_building_again(clone: Clone) -> None:
    clone.prepare()
    with open(clone.path / "pyproject.toml", "a") as file:
        file.write("# changed\n")

    assert clone.prepare().returncode == 0

    assert [call for call in clone.pip_calls if call != "--version"] == [*BUILT, "install"]


def test_other_flags_build_again(clone: Clone) -> None:
    clone.prepare()

    assert clone.prepare(CMAKE_ARGS="-DGGML_NATIVE=OFF").returncode == 0

    assert clone.pip_calls.count("wheel") == 2


def test_a_failed_build_shows_its_end_and_leaves_no_wheel(clone: Clone) -> None:
    done = clone.prepare(FAKE_PIP_DOES="fail")

    assert done.returncode == 1
    assert "error: the compiler is out of sorts" in done.stderr
    assert str(clone.cache / "log" / "llama-cpp-build.log") in done.stderr
    assert not list(clone.cache.rglob("*.whl"))
    assert not list(clone.cache.glob("build-*"))
    assert clone.prepare().returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_neither_wheel_nor_process(
    clone: Clone, number: signal.Signals, code: int
) -> None:
    process = _hanging(clone)
    log = clone.cache / "log" / "llama-cpp-build.log"
    wait_until(lambda: log.exists() and "hanging" in log.read_text(), "the build runs")

    assert end(process, number) == code

    assert not list(clone.cache.rglob("*.whl"))
    assert not list(clone.cache.glob("build-*"))
    assert processes_below(clone.path) == []


def test_of_two_clones_at_once_one_builds_and_the_other_waits(clone: Clone, tmp_path: Path) -> None:
    other = make_clone(tmp_path, "other")
    both = [_preparing(each) for each in (clone, other)]

    errors = "".join(process.communicate(timeout=60)[1] for process in both)

    assert [process.returncode for process in both] == [0, 0]
    assert "waiting for it" in errors
    assert clone.pip_calls.count("wheel") == 1


def test_without_a_terminal_progress_is_plain_lines(clone: Clone) -> None:
    done = clone.prepare()

    assert "\r" not in done.stderr
    assert "compiling llama.cpp: done after" in done.stderr


def _hanging(clone: Clone) -> subprocess.Popen[str]:
    clone.env["FAKE_PIP_DOES"] = "hang"
    return _preparing(clone)


def _preparing(clone: Clone) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PYTHON, "-B", str(clone.path / "scripts/lib/prepare")],
        env=clone.env,
        stderr=subprocess.PIPE,
        text=True,
    )
