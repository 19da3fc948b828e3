"""One version of qwend in a virtual environment of its own, made aside and then switched to.

Rule 1: an environment is used only once it is complete; the one before stays until the new one has
answered.
Rule 2: its name says what it was made from, so what is there already need not be made again.

    PREFIX/current -> venv-3f2a91c04b7d
    PREFIX/bin/qwend -> ../current/bin/qwend
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import machine
import wheel
from actions import Actions
from places import Places
from problem import Problem
from requirement import llama_requirement
from target import Target

COMMANDS = ("qwend", "qwenctl")
# An environment takes about 160 MB (llama.cpp 50, numpy 70), and pip needs as much for a while.
NEEDED_BYTES = 400_000_000
# Written last: an environment without it was left by a run that did not come to its end.
_COMPLETE = "qwend-complete"


@dataclass(frozen=True, slots=True)
class Release:
    """venv: where it is or will be. key: of the wheel of llama.cpp in it."""

    version: str
    venv: Path
    key: str

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def is_complete(self) -> bool:
        return (self.venv / _COMPLETE).exists() and _runs(self.python)


def release_of(root: Path, target: Target, environ: Mapping[str, str]) -> Release:
    """The release that this clone, this Python and this CPU make."""
    requirement = llama_requirement(root)
    found = re.search(r'^__version__ = "(.+)"', (root / "qwend/__init__.py").read_text(), re.M)
    # Not the compiler: an update of it is no reason to compile again what runs.
    made_by = (requirement, machine.build_identity(environ), sys.version, str(_base_python()))
    digest = hashlib.sha256("\0".join(made_by).encode())
    for file in _sources(root):
        digest.update(f"{file.relative_to(root)}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    name = f"venv-{digest.hexdigest()[:12]}"
    key = machine.wheel_key(requirement, environ)
    return Release(found[1] if found else "unknown", target.prefix / name, key)


def check(release: Release, target: Target, places: Places, environ: Mapping[str, str]) -> None:
    """Raises: Problem with all that is missing, before anything is made."""
    python = _base_python()
    hidden = python.is_relative_to("/root") or python.is_relative_to("/home")
    if hidden and not target.user:
        raise Problem(
            f"The only Python of 3.11 or newer is {python}, which a service cannot read.\n"
            "  Debian 12, Raspberry Pi OS 12, Ubuntu 24.04 or newer: "
            "sudo apt install python3 python3-venv"
        )
    if release.is_complete:
        return
    to_build = cached_wheel(release, places, environ) is None
    missing = machine.missing_packages(environ, to_build=to_build, to_make_venv=True)
    if missing:
        raise Problem(
            "Something of the system is missing. Install it, then run this again:\n"
            f"  sudo apt install {' '.join(missing)}"
        )
    free = shutil.disk_usage(_nearest(target.prefix)).free
    if free < NEEDED_BYTES:
        raise Problem(
            f"{target.prefix} needs {NEEDED_BYTES // 10**6} MB for a while; its disk has "
            f"{free // 10**6} MB left. Make room, or take another --prefix"
        )


def cached_wheel(release: Release, places: Places, environ: Mapping[str, str]) -> Path | None:
    """The compiled llama.cpp, from our cache or that of whoever called sudo.

    theirs: scripts/quickstart has compiled it there; it is the same person's clone that runs now.
    """
    caches = [places.cache]
    with contextlib.suppress(KeyError, ValueError):
        caches.append(Path(pwd.getpwuid(int(environ["SUDO_UID"])).pw_dir) / ".cache" / "qwend")
    found = (wheel.cached(Places(places.root, cache), release.key) for cache in caches)
    return next((each for each in found if each), None)


def make(release: Release, places: Places, actions: Actions, environ: Mapping[str, str]) -> None:
    """Make the environment; do nothing if it is complete. Raises: Problem."""
    if release.is_complete:
        return
    ready = cached_wheel(release, places, environ)
    actions.remove(release.venv)
    actions.directory(release.venv.parent)
    log = places.log / "install-venv.log"
    actions.run("making the environment", log, sys.executable, "-m", "venv", release.venv)
    if ready is not None:
        actions.say("llama.cpp", "as an earlier run has compiled it for this machine")
    elif actions.dry:
        actions.call("(compile llama.cpp for this machine)")
    else:
        ready = wheel.build(
            places, release.python, release.key, llama_requirement(places.root), environ
        )
        actions.say("llama.cpp", "compiled for this machine")
    pip = (release.python, "-m", "pip", "install")
    log = places.log / "install-llama.log"
    actions.run("installing llama.cpp", log, *pip, "--no-deps", ready or "WHEEL")
    with _copied(places.root, actions) as source:
        actions.run("installing qwend", places.log / "install-qwend.log", *pip, source)
    # -P: what is installed is meant, not what lies in the directory we are called from.
    actions.call(release.python, "-P", "-c", "import llama_cpp, qwend.daemon.main")
    actions.write(release.venv / _COMPLETE, release.key + "\n")


def switch(release: Release, target: Target, actions: Actions) -> bool:
    """Let the commands and the units mean this release; True if they meant another."""
    changed = actions.link(target.current, release.venv.name)
    for name in COMMANDS:
        own = target.prefix / "bin" / name
        changed |= actions.link(own, f"../current/bin/{name}")
        if (target.bin / name) != own:
            changed |= actions.link(target.bin / name, own)
    return changed


def remove_others(release: Release, target: Target, actions: Actions) -> None:
    """Remove what was used before, and what broken runs have left."""
    for venv in sorted(target.prefix.glob("venv-*")):
        if venv != release.venv:
            actions.remove(venv)


@contextlib.contextmanager
def locked(target: Target, actions: Actions) -> Iterator[None]:
    """Only one run at a time works on a prefix. Raises: Problem if there is another."""
    if actions.dry:
        yield
        return
    target.prefix.mkdir(parents=True, exist_ok=True)
    fd = os.open(target.prefix, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Problem(f"Another run is working on {target.prefix}; wait for it") from None
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _copied(root: Path, actions: Actions) -> Iterator[Path]:
    """The sources in a directory of their own: building leaves files beside them."""
    if actions.dry:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="qwend-install-") as directory:
        for file in (*_sources(root), root / "README.md"):
            copy = Path(directory) / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        yield Path(directory)


def _sources(root: Path) -> list[Path]:
    package = (file for file in (root / "qwend").rglob("*") if file.is_file())
    kept = (file for file in package if "__pycache__" not in file.parts)
    return [*sorted(kept), root / "pyproject.toml"]


def _base_python() -> Path:
    return Path(os.path.realpath(sys.executable))


def _runs(python: Path) -> bool:
    return python.exists() and not subprocess.run([python, "-c", ""], check=False).returncode


def _nearest(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())
