"""What a fresh machine lacks is said with the command that mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.scripts_quickstart.clone import PYTHON, Clone, make_clone

SCRIPTS = ["quickstart", "test", "check"]


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with what the scripts need of a minimal system: no Python, no compiler."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("bash", "dirname", "realpath", "env", "cat"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_python(clone: Clone, tools: Path, script: str) -> None:
    done = clone.run(script, PATH=str(tools))

    assert done.returncode == 1
    assert "qwend needs Python 3.11 or newer" in done.stderr
    assert "sudo apt install python3 python3-venv g++" in done.stderr


def test_an_old_python_is_named_with_its_version(clone: Clone, tools: Path) -> None:
    old = tools / "python3"
    old.write_text("#!/bin/bash\n[[ $2 == *platform* ]] && echo 3.9.2 || exit 1\n")
    old.chmod(0o755)

    done = clone.run("quickstart", PATH=str(tools))

    assert "here python3 is 3.9.2" in done.stderr


def test_a_named_python_that_is_none_is_refused(clone: Clone) -> None:
    done = clone.run("quickstart", QWEND_PYTHON="/bin/true-is-no-python")

    assert done.returncode == 1
    assert "QWEND_PYTHON is /bin/true-is-no-python" in done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_missing_venv_and_compiler_are_one_command(
    clone: Clone, tools: Path, tmp_path: Path, script: str
) -> None:
    (tmp_path / "modules" / "ensurepip.py").write_text("raise ImportError\n")

    done = clone.run(script, PATH=str(tools), QWEND_PYTHON=PYTHON)

    assert done.returncode == 1
    assert "sudo apt install python3" in done.stderr
    assert "-venv g++" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone.path / ".venv").exists()


def test_no_place_for_a_cache_falls_back_to_the_clone(clone: Clone) -> None:
    env = {"XDG_CACHE_HOME": "", "HOME": "/nonexistent"}

    done = clone.prepare("--where", **env)

    assert done.stdout.startswith(str(clone.path / ".cache" / "qwend" / "wheels"))


def test_a_cache_that_cannot_be_written_falls_back_to_the_clone(clone: Clone) -> None:
    done = clone.prepare("--where", XDG_CACHE_HOME="/proc")

    assert done.stdout.startswith(str(clone.path / ".cache"))


def test_the_cache_entry_depends_on_the_flags_and_not_on_the_clone(
    clone: Clone, tmp_path: Path
) -> None:
    here = clone.prepare("--where").stdout

    assert make_clone(tmp_path, "other").prepare("--where").stdout == here
    for flags in ({"CMAKE_ARGS": "-DGGML_NATIVE=OFF"}, {"CXXFLAGS": "-O1"}):
        assert clone.prepare("--where", **flags).stdout != here


def test_help_writes_nothing(clone: Clone) -> None:
    before = clone.files()

    for script in ("quickstart", "test"):
        done = clone.run(script, "--help")
        assert done.returncode == 0
        assert f"Usage: scripts/{script}" in done.stdout

    assert clone.files() == before
    assert not clone.cache.exists()


@pytest.mark.parametrize("arguments", [("--promt", "x"), ("x",), ("--prompt",), ("--model",)])
def test_a_wrong_argument_shows_the_usage(clone: Clone, arguments: tuple[str, ...]) -> None:
    done = clone.run("quickstart", *arguments)

    assert done.returncode == 2
    assert "Usage: scripts/quickstart" in done.stderr


def test_a_model_that_is_not_there_says_where_one_is(clone: Clone) -> None:
    done = clone.run("quickstart", "--model", "/nowhere.gguf")

    assert done.returncode == 2
    assert "/nowhere.gguf" in done.stderr
    assert "huggingface.co/Qwen" in done.stderr
