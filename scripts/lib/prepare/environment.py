"""The clone's .venv: made, filled, and recognised as complete by one stamp.

Rule 1: a .venv that works is only ever added to; one whose Python is gone is made anew.
Rule 2: this file does not know how llama.cpp is compiled.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from places import Places
from problem import Problem
from requirement import satisfies
from running import run

STAMP = "qwend-stamp.json"

# Prints the version of an importable llama-cpp-python. Importing loads the compiled libraries: a
# build for another machine fails here and not in the daemon.
_PROBE = (
    "import importlib.metadata as m, llama_cpp; print('version', m.version('llama-cpp-python'))"
)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a complete .venv was made from. build: identity of our own llama.cpp, "" if found."""

    project: str
    extras: tuple[str, ...]
    build: str


def pip_environment(cache: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What pip runs in, whatever the caller's settings say."""
    return {
        **environ,
        "PIP_CACHE_DIR": str(cache / "pip"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        # Distributions' Pythons refuse pip outside a .venv; a user's setting may refuse it inside.
        "PIP_USER": "0",
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def project_digest(places: Places) -> str:
    """A digest of what the installation depends on: requirements, Python, place of the clone."""
    made_by = f"{sys.version}\0{places.root}\0".encode()
    return hashlib.sha256(made_by + (places.root / "pyproject.toml").read_bytes()).hexdigest()


def read_stamp(places: Places) -> Stamp | None:
    """Return the stamp of the .venv; None if there is none that can be read."""
    try:
        fields = json.loads((places.venv / STAMP).read_text(encoding="utf-8"))
        return Stamp(str(fields["project"]), tuple(fields["extras"]), str(fields["build"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_stamp(places: Places, stamp: Stamp) -> None:
    fields = {"project": stamp.project, "extras": stamp.extras, "build": stamp.build}
    aside = places.venv / f"{STAMP}.{os.getpid()}"
    aside.write_text(json.dumps(fields) + "\n", encoding="utf-8")
    aside.replace(places.venv / STAMP)


def works(places: Places) -> bool:
    """Does the .venv have a Python that runs?"""
    return places.python.exists() and _output([str(places.python), "-c", "print(1)"]) == "1"


def make(places: Places, *, with_system_packages: bool, log: Path) -> None:
    """Create the .venv with the Python that runs this script."""
    command = [sys.executable, "-m", "venv", "--clear"]
    if with_system_packages:
        command.append("--system-site-packages")
    run("making .venv", [*command, str(places.venv)], log, os.environ)
    if with_system_packages and sys.prefix != sys.base_prefix:
        # We run in another .venv (QWEND_PYTHON names it): its packages are not the system's.
        site = Path(sysconfig.get_path("purelib", vars={"base": str(places.venv)}))
        (site / "named-python.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")


def check_existing(places: Places) -> None:
    """Raises: Problem if the .venv was made with a Python that is too old."""
    probe = "import sys; print(sys.version_info >= (3, 11))"
    if _output([str(places.python), "-c", probe]) != "True":
        raise Problem(
            f"{places.venv} has a Python older than 3.11. Remove it and run this again:\n"
            f"  rm -r {places.venv}"
        )
    if not _output([str(places.python), "-m", "pip", "--version"]):
        # Environments made by uv have none.
        subprocess.run([str(places.python), "-m", "ensurepip"], capture_output=True, check=False)


def llama_version(python: str | Path, requirement: str) -> str | None:
    """Return the version of the llama-cpp-python that this Python imports, if it is in range."""
    for line in _output([str(python), "-c", _PROBE]).splitlines():
        word, _, version = line.partition(" ")
        if word == "version" and satisfies(version, requirement):
            return version
    return None


def install(
    places: Places, wheel: Path | None, extras: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Install the clone (editable) with its requirements, and our llama-cpp-python if given."""
    target = f"{places.root}[{','.join(extras)}]" if extras else str(places.root)
    # compat: a path in a .pth file, where the default is a finder that costs each start 15 ms.
    command = [str(places.python), "-m", "pip", "install"]
    command += ["--config-settings", "editable_mode=compat", "--editable", target]
    if wheel is not None:
        forced = [str(places.python), "-m", "pip", "install", "--no-deps", "--force-reinstall"]
        run(
            "installing llama.cpp", [*forced, str(wheel)], places.log / "llama-install.log", environ
        )
    # setuptools would leave qwend.egg-info in the clone.
    aside = places.venv / "egg-info"
    aside.mkdir(exist_ok=True)
    settings = aside / "setuptools.cfg"
    settings.write_text(f"[egg_info]\negg_base = {aside}\n", encoding="utf-8")
    environ = {**environ, "DIST_EXTRA_CONFIG": str(settings)}
    run("installing Python packages", command, places.log / "install.log", environ)


def _output(command: Sequence[str]) -> str:
    """Return what the command prints; nothing if it fails or cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
