"""scripts/install into a booted systemd: the real pip, the real units, the real engine.

llama.cpp is not compiled here: the wheel is the one that scripts/quickstart or scripts/test has put
into the cache. The machine has no network; pip takes what it needs from a directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from qwend.client import Client
from tests.systemd import machine
from tests.systemd.installation import PYTHON, ROOT
from tests.systemd.machine import Disk, Machine

pytestmark = [pytest.mark.llama, pytest.mark.timeout(170)]

SOCKET = "/run/qwend/qwend.sock"
CLONE, WHEELS = "/srv/clone", "/srv/wheels"
PIP = ("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS}")
CURRENT = "/opt/qwend/current"
CONFIG = "/etc/qwend/qwend.toml"
MODELS = "/var/lib/qwend/models"
QWENCTL = "/usr/local/bin/qwenctl"
LLAMA_NEEDS = ("numpy", "typing-extensions", "diskcache", "jinja2")
# pip unpacks and compiles some 70 MB; a busy machine takes several times the usual 10 s.
INSTALL_S = 120.0


@dataclass(frozen=True, slots=True)
class Clone:
    """path: its place here, where it can be changed; the machine sees it, and cannot."""

    path: Path
    machine: Machine

    def install(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = (*PIP, f"{CLONE}/scripts/install", *arguments)
        return self.machine.run(*command, check=check, timeout_s=INSTALL_S)

    def set_version(self, version: str) -> None:
        (self.path / "qwend/__init__.py").write_text(f'__version__ = "{version}"\n')


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What qwend needs beside llama.cpp, as wheels for the system's Python."""
    if reason := machine.why_not():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("wheels")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [
        *(name for name in project["project"]["dependencies"] if not name.startswith("llama")),
        *project["build-system"]["requires"],
        *LLAMA_NEEDS,
    ]
    done = subprocess.run(
        [PYTHON, "-m", "pip", "wheel", "--quiet", "--wheel-dir", place, *names],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"packages cannot be fetched: {done.stderr.strip()[-200:]}")
    return place


@pytest.fixture(scope="module")
def llama() -> Path:
    """The directory of the wheel that was compiled for this machine."""
    plain = {
        name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME") if name in os.environ
    }
    where = [str(PYTHON), "-B", str(ROOT / "scripts/lib/prepare"), "--where"]
    done = subprocess.run(where, env=plain, capture_output=True, text=True, check=False)
    place = Path(done.stdout.strip())
    if not list(place.glob("*.whl")):
        pytest.skip(f"llama.cpp has not been compiled for {PYTHON}: run scripts/quickstart")
    return place


@pytest.fixture
def clone(wheels: Path, llama: Path, tmp_path: Path) -> Iterator[Clone]:
    """A clone on a machine that has never seen qwend."""
    path = tmp_path / "clone"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("scripts", "systemd", "qwend"):
        shutil.copytree(ROOT / name, path / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, path)
    binds = (
        (path, Path(CLONE)),
        (wheels, Path(WHEELS)),
        (llama, Path("/root/.cache/qwend/wheels") / llama.name),
    )
    state = tmp_path / "state"
    state.mkdir()
    with machine.booted(state, Disk(etc={}, binds=binds)) as booted:
        yield Clone(path, booted)


def test_the_life_of_an_installation(clone: Clone) -> None:
    """1. Install where the configuration is wrong: the service's own log says why.
    2. Go on from there: it runs, at boot too, has answered, and the doctor finds nothing wrong.
    3. Again: nothing changes.
    4. Upgrade, with a model of the owner's: it answers on the same connection; the old one is gone.
    5. Remove: nothing is left but the model.
    """
    booted = clone.machine

    booted.write(CONFIG, "[model]\ncontxt = 64\n")
    failed = clone.install(check=False)
    assert failed.returncode == 1
    assert "contxt" in failed.stderr, failed.stderr
    assert "To go on from there, once that is mended" in failed.stderr

    booted.write(CONFIG, "[model]\ncontext = 640\n")
    assert "answer" in clone.install().stdout
    assert booted.property("qwend", "ActiveState") == "active"
    assert booted.systemctl("is-enabled", "qwend") == "enabled"
    assert booted.run(QWENCTL, "ask", "What is qwend?").stdout
    doctor = booted.run(QWENCTL, "doctor", "--json")
    levels = {each["name"]: each["level"] for each in json.loads(doctor.stdout)["findings"]}
    assert {levels[name] for name in ("daemon", "build", "service", "systemd")} == {"ok"}

    pid = booted.property("qwend", "MainPID")
    assert "runs, as before" in clone.install().stdout
    assert booted.property("qwend", "MainPID") == pid

    before = os.readlink(booted.path(CURRENT))
    booted.run("cp", f"{CLONE}/qwend/models/guide.gguf", "/srv/mine.gguf")
    with Client(booted.path(SOCKET)) as client:
        clone.set_version("99.0")
        upgraded = clone.install("--model", "/srv/mine.gguf")
        status = client.status()
    assert "restarted" in upgraded.stdout
    assert status["server"] == "qwend 99.0"
    assert isinstance(status["model"], dict)
    assert status["model"]["path"] == f"{MODELS}/mine.gguf"
    assert os.readlink(booted.path(CURRENT)) != before
    assert not booted.path(f"/opt/qwend/{before}").exists()

    removed = clone.install("--uninstall")
    assert f"kept in {MODELS}" in removed.stdout
    models = booted.path(MODELS)
    assert (models / "mine.gguf").stat().st_uid == 0
    assert [file.name for file in models.parent.iterdir()] == ["models"]
    for place in ("/opt/qwend", "/etc/qwend", "/run/qwend", QWENCTL, "/var/lib/qwend-host"):
        assert not os.path.lexists(booted.path(place)), place
    assert booted.run("find", "/etc", "-name", "*qwend*").stdout == ""
    assert booted.run("getent", "group", "qwend", check=False).stdout == ""
    units = booted.systemctl("list-units", "--all", "--plain", "--no-legend", "*qwend*")
    assert [line for line in units.splitlines() if line.startswith(("qwend", "run-qwend"))] == []
