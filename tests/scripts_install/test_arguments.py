"""What scripts/install refuses, and that it has changed nothing by then."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.scripts_install.machine import Machine

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts/install"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prefx", "/x"], "unknown argument: --prefx"),
        (["x"], "unknown argument: x"),
        (["--prefix"], "--prefix needs a value"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--uninstall", "--model", "guide"], "--model does not go with --uninstall"),
    ],
)
def test_a_wrong_call_shows_the_usage(arguments: list[str], said: str) -> None:
    done = run(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Usage: scripts/install" in done.stderr


def test_help_is_the_usage() -> None:
    done = run("--help")

    assert done.returncode == 0
    assert "--uninstall" in done.stdout


@pytest.mark.parametrize("prefix", ["/home/me/qwend", "/tmp/qwend", "/root/q"])
def test_a_prefix_that_the_service_cannot_see_is_refused(prefix: str) -> None:
    done = run("--dry-run", "--prefix", prefix)

    assert done.returncode == 1
    assert f"what is below /{prefix.split('/')[1]}" in done.stderr
    assert "Nothing has been changed." in done.stderr


def test_a_prefix_that_systemd_would_misread_is_refused() -> None:
    assert "plainer --prefix" in run("--dry-run", "--prefix", "/opt/q%d").stderr


def test_without_root_the_machine_is_not_changed(machine: Machine) -> None:
    before = machine.files()

    done = machine.call()

    assert done.returncode == 1
    assert "it needs root: sudo scripts/install" in done.stderr
    assert "--user" in done.stderr
    assert machine.files() == before


def test_a_model_that_is_none_is_refused_before_anything_is_done(machine: Machine) -> None:
    (machine.home / "page.gguf").write_text("<html>")
    before = machine.files()

    for model, said in (
        (str(machine.home / "page.gguf"), "is no GGUF file"),
        (str(machine.home / "no.gguf"), "No such file"),
        ("qwen9", "There is no model 'qwen9'"),
    ):
        done = machine.install("--model", model)
        assert done.returncode == 1
        assert said in done.stderr
        assert "Nothing has been changed." in done.stderr

    assert machine.files() == before


def test_a_model_that_was_pulled_is_named_like_a_file(machine: Machine) -> None:
    manifests = machine.models / "store" / "manifests"
    manifests.mkdir(parents=True)
    (manifests / "qwen2.5-0.5b-instruct.json").write_text("{}")

    assert "qwen2.5-0.5b-instruct" in machine.install("--model", "qwen9").stderr
    done = machine.install("--model", "qwen2.5-0.5b-instruct", "--dry-run")

    assert "There is no model" not in done.stderr


def test_missing_packages_are_one_command(machine: Machine) -> None:
    (machine.home / "modules/ensurepip.py").write_text("raise ImportError\n")

    done = machine.install(CC="no-such-compiler", CXX="no-such-compiler")

    assert done.returncode == 1
    assert "sudo apt install python3" in done.stderr
    assert "-venv g++" in done.stderr
    assert not machine.prefix.exists()
