"""Make the clone's .venv complete, then run a command in it.

    python3 scripts/lib/prepare [--extras dev] [--where] [-- COMMAND ...]

Rule 1: the order of things stands here: stamp, packages of the system, .venv, llama.cpp, the rest.
Rule 2: Python's own library only; nothing is installed yet when this runs.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import environment
import machine
import wheel
from environment import Stamp
from places import Places, find_places
from problem import Problem
from requirement import llama_requirement

ROOT = Path(__file__).resolve().parents[3]


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    options = _arguments()
    try:
        places = find_places(ROOT, os.environ)
        if options.where:
            print(places.wheels / machine.wheel_key(llama_requirement(ROOT), os.environ))
            return 0
        prepare(places, tuple(options.extras))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. What is complete is kept; run it again to go on.", file=sys.stderr)
        return 130
    if options.command:
        os.execv(options.command[0], options.command)
    return 0


def prepare(places: Places, extras: tuple[str, ...]) -> None:
    """Make the .venv complete; do nothing if its stamp says that it is.

    Raises: Problem with what is missing and how to mend it.
    """
    if _is_complete(places, extras):
        return
    with _locked(places):
        if _is_complete(places, extras):
            return  # whoever held the lock has done it
        _fill(places, extras)


def _is_complete(places: Places, extras: tuple[str, ...]) -> bool:
    stamp = environment.read_stamp(places)
    return (
        stamp is not None
        and stamp.project == environment.project_digest(places)
        and set(extras) <= set(stamp.extras)
        and stamp.build in ("", machine.build_identity(os.environ))
        and places.python.exists()
    )


def _fill(places: Places, extras: tuple[str, ...]) -> None:
    requirement = llama_requirement(places.root)
    environ = environment.pip_environment(places.cache, os.environ)
    stamp = environment.read_stamp(places)
    identity = machine.build_identity(os.environ)
    have_venv = environment.works(places)
    key = machine.wheel_key(requirement, os.environ)

    found = environment.llama_version(places.python if have_venv else sys.executable, requirement)
    if have_venv and stamp and stamp.build not in ("", identity):
        found = None  # ours, but compiled with other flags or for another CPU
    _check_packages(to_build=not (found or wheel.cached(places, key)), to_make_venv=not have_venv)
    if not have_venv:
        environment.make(places, with_system_packages=bool(found), log=places.log / "venv.log")
    environment.check_existing(places)

    ready = None
    if not found:
        ready = wheel.cached(places, key) or wheel.build(
            places, places.python, key, requirement, environ
        )
    wanted = tuple(sorted({*extras, *(stamp.extras if stamp else ())}))
    environment.install(places, ready, wanted, environ)
    if environment.llama_version(places.python, requirement) is None:
        raise Problem(
            f"llama-cpp-python is installed but cannot be imported. See why:\n"
            f"  {places.python} -c 'import llama_cpp'\n"
            f"To compile it again: rm -r {places.wheels / key} {places.venv}"
        )
    build = identity if ready else (stamp.build if stamp else "")
    environment.write_stamp(places, Stamp(environment.project_digest(places), wanted, build))


def _check_packages(*, to_build: bool, to_make_venv: bool) -> None:
    missing = machine.missing_packages(os.environ, to_build=to_build, to_make_venv=to_make_venv)
    if missing:
        raise Problem(
            "Something of the system is missing. Install it, then run this again:\n"
            f"  sudo apt install {' '.join(missing)}"
        )


@contextlib.contextmanager
def _locked(places: Places) -> Iterator[None]:
    """Hold the cache: of several clones one compiles, the others use what it compiled."""
    with open(places.cache / "lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another run is preparing its environment; waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/lib/prepare")
    parser.add_argument("--extras", action="append", default=[])
    parser.add_argument("--where", action="store_true", help="print where the wheel is cached")
    parser.add_argument("command", nargs="*")
    return parser.parse_args()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # An exception, so that every `finally` on the way out cleans up.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
