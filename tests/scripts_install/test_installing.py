"""Install, upgrade and remove, for one user, with stubs for all that takes time."""

from __future__ import annotations

import os

import pytest

from tests.cli.terminal import terminal
from tests.scripts_install.machine import AS_NOBODY, NOBODY, Machine

MODEL = b"GGUF" + bytes(100)


def test_a_dry_run_says_each_action_and_does_none(machine: Machine) -> None:
    before = machine.files()

    done = machine.install("--dry-run")

    assert done.returncode == 0, done.stderr
    assert all(line.startswith("would ") for line in done.stdout.splitlines())
    for action in ("compile llama.cpp", "qwend.service", "systemctl --user enable", "qwenctl"):
        assert action in done.stdout
    assert machine.files() == before
    assert machine.calls == []


def test_it_installs_starts_and_asks(machine: Machine) -> None:
    done = machine.install()

    assert done.returncode == 0, done.stderr
    assert machine.calls == ["daemon-reload ", "enable qwend.service", "start qwend.service"]
    assert "9.9 in" in done.stdout
    assert "started; from now on it starts at each login" in done.stdout
    assert "“Asked: ask --max-tokens" in done.stdout  # the stub repeats what it was asked
    unit = (machine.units / "qwend.service").read_text()
    assert f"ExecStart={machine.prefix}/bin/qwend serve" in unit
    assert "/opt/qwend" not in unit
    command = machine.home / ".local/bin/qwenctl"
    assert command.resolve().parent.parent == machine.prefix / os.readlink(
        machine.prefix / "current"
    )


def test_the_clone_is_left_as_it_was(machine: Machine) -> None:
    before = set(machine.clone.path.rglob("*"))

    machine.install()

    assert set(machine.clone.path.rglob("*")) == before


def test_a_second_run_changes_nothing(machine: Machine) -> None:
    machine.install()
    before, calls, pip = machine.files(), machine.calls, machine.clone.pip_calls

    done = machine.install()

    assert done.returncode == 0, done.stderr
    changed = {path for path, sign in machine.files().items() if before.get(path) != sign}
    # Whether the cache can be written to is tried with a file.
    assert changed <= {machine.clone.cache, machine.clone.cache / "log"}
    assert machine.calls == calls
    assert machine.clone.pip_calls == pip
    assert "runs, as before" in done.stdout


def test_an_upgrade_is_made_aside_and_restarts_the_service(machine: Machine) -> None:
    machine.install()
    old = os.readlink(machine.prefix / "current")
    (machine.clone.path / "qwend/__init__.py").write_text('__version__ = "10"\n')

    done = machine.install()

    assert done.returncode == 0, done.stderr
    assert machine.calls[3:] == ["restart qwend.service"]
    assert os.readlink(machine.prefix / "current") != old
    assert not (machine.prefix / old).exists()
    assert machine.clone.pip_calls.count("wheel") == 1  # llama.cpp is the same


def test_an_upgrade_that_does_not_start_leaves_the_way_back(machine: Machine) -> None:
    machine.install()
    old = os.readlink(machine.prefix / "current")
    (machine.clone.path / "qwend/__init__.py").write_text('__version__ = "10"\n')
    (machine.home / "bin/state/qwend.service.is-active").unlink()

    done = machine.install(FAKE_START_FAILS="yes")

    assert done.returncode == 1
    assert "Job for qwend failed" in done.stderr
    assert f"ln -sfn {old} {machine.prefix}/current" in done.stderr
    assert "What is done stays" in done.stderr
    assert (machine.prefix / old).exists()
    assert machine.install().returncode == 0
    assert not (machine.prefix / old).exists()


def test_an_environment_that_was_left_half_made_is_made_again(machine: Machine) -> None:
    assert machine.install(FAKE_PIP_DOES="fail").returncode == 1
    assert not (machine.prefix / "current").exists()

    assert machine.install().returncode == 0

    assert len(list(machine.prefix.glob("venv-*"))) == 1


def test_without_a_systemd_all_is_put_in_place_and_nothing_started(machine: Machine) -> None:
    done = machine.install(FAKE_NO_SYSTEMD="yes")

    assert done.returncode == 0, done.stderr
    assert "not started: no systemd runs here" in done.stdout
    assert f"{machine.prefix}/bin/qwend serve" in done.stdout
    assert (machine.units / "qwend.service").exists()
    assert machine.calls == ["enable qwend.service"]


def test_a_model_is_copied_and_named_in_the_configuration(machine: Machine) -> None:
    file = machine.home / "small-1.gguf"
    file.write_bytes(MODEL)
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text("# mine\n[engine]\nthreads = 2 # two\n")
    machine.config.chmod(0o644)
    os.chown(machine.config.parent, *_owner(machine))
    os.chown(machine.config.parent.parent, *_owner(machine))

    done = machine.install("--model", str(file))

    assert done.returncode == 0, done.stderr
    assert (machine.models / "small-1.gguf").read_bytes() == MODEL
    assert machine.config.read_text() == (
        '# mine\n[engine]\nthreads = 2 # two\n\n[model]\nname = "small-1"\n'
    )
    assert machine.install("--model", "small-1").stdout.count("as before") == 4


def test_uninstall_leaves_the_models_and_says_where(machine: Machine) -> None:
    file = machine.home / "small.gguf"
    file.write_bytes(MODEL)
    machine.install("--model", str(file))

    done = machine.install("--uninstall")

    assert done.returncode == 0, done.stderr
    assert f"kept in {machine.models}" in done.stdout
    left = {path for path in machine.home.rglob("*") if path.is_file() or path.is_symlink()}
    mine = {path for path in left if ".local" in path.parts or ".config" in path.parts}
    assert mine == {machine.models / "small.gguf"}
    assert not machine.prefix.exists()
    assert "stop qwend.service" in machine.calls


def test_uninstall_counts_what_was_pulled_among_the_models(machine: Machine) -> None:
    machine.install()
    store = machine.models / "store"
    for name in ("blobs", "manifests", "parts"):
        (store / name).mkdir(parents=True)
    (store / "manifests" / "qwen.json").write_text("{}")
    (store / "blobs" / ("a" * 64)).write_bytes(MODEL)

    done = machine.install("--uninstall")

    assert done.returncode == 0, done.stderr
    assert f"kept in {machine.models}" in done.stdout
    assert (store / "blobs" / ("a" * 64)).read_bytes() == MODEL


def test_uninstall_removes_a_store_without_models(machine: Machine) -> None:
    machine.install()
    blobs = machine.models / "store" / "blobs"
    blobs.mkdir(parents=True)
    if os.geteuid() == 0:
        for path in (machine.home / ".local").rglob("*"):
            os.chown(path, NOBODY, NOBODY)

    assert machine.install("--uninstall").returncode == 0

    assert not machine.models.parent.exists()


@pytest.mark.parametrize(("answer", "stays"), [("y", False), ("", True), ("no", True)])
def test_at_a_terminal_uninstall_asks_about_the_models(
    machine: Machine, answer: str, stays: bool
) -> None:
    file = machine.home / "small.gguf"
    file.write_bytes(MODEL)
    machine.install("--model", str(file))
    command = [*AS_NOBODY, *machine.clone.command("install"), "--user", "--uninstall"]

    with terminal(command, machine.clone.env) as shown:
        shown.wait_for("too (small; 0 MB)? [y/N] ")
        shown.type(f"{answer}\n")
        assert shown.wait() == 0

    assert (machine.models / "small.gguf").exists() is stays


def test_purge_leaves_nothing(machine: Machine) -> None:
    file = machine.home / "small.gguf"
    file.write_bytes(MODEL)
    machine.install("--model", str(file))

    assert machine.install("--uninstall", "--purge").returncode == 0

    assert not machine.models.parent.exists()


def test_uninstall_of_what_is_not_there_is_no_error(machine: Machine) -> None:
    done = machine.install("--uninstall")

    assert done.returncode == 0, done.stderr
    assert "there was none" in done.stdout


def test_somebody_elses_command_is_not_overwritten(machine: Machine) -> None:
    other = machine.home / ".local/bin/qwenctl"
    other.parent.mkdir(parents=True)
    other.write_text("#!/bin/sh\n")
    for path in (other, other.parent, other.parent.parent):
        os.chown(path, *_owner(machine))

    done = machine.install()

    assert done.returncode == 1
    assert f"{other} is there and is not ours" in done.stderr
    assert other.read_text() == "#!/bin/sh\n"


def _owner(machine: Machine) -> tuple[int, int]:
    facts = machine.home.stat()
    return facts.st_uid, facts.st_gid
