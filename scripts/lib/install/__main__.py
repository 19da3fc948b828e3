"""Install qwend as a service, upgrade it, or take it off.

    python3 scripts/lib/install [--user] [--prefix DIR] [--model NAME|PATH] [--dry-run]
    python3 scripts/lib/install --uninstall [--purge] ...

Rule 1: the order of things stands here; all that can be known is checked before the first change.
Rule 2: each step may be done again: a run that broke off is mended by the next.
Rule 3: Python's own library only.
"""

from __future__ import annotations

import argparse
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(1, str(ROOT / "scripts" / "lib" / "prepare"))

import environment  # noqa: E402
import model  # noqa: E402
import release  # noqa: E402
import units  # noqa: E402
from actions import Actions  # noqa: E402
from places import Places, find_places  # noqa: E402
from problem import Problem  # noqa: E402
from removal import uninstall  # noqa: E402
from target import Target, system_target, user_target  # noqa: E402

QUESTION = "What is qwend?"
# A slow machine loads a model for minutes and then answers a token a second.
ANSWER_S = 300


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    # What the service and its users read must not depend on how root works.
    os.umask(0o022)
    options = _arguments()
    environ = _environment()
    actions = Actions(dry=options.dry_run, environ=environ)
    try:
        _work(options, environ, actions)
    except Problem as problem:
        print(f"{problem}\n\n{_how_to_go_on(actions)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"scripts/install: {error}\n\n{_how_to_go_on(actions)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nInterrupted. {_how_to_go_on(actions)}", file=sys.stderr)
        return 130
    return 0


def _work(options: argparse.Namespace, environ: dict[str, str], actions: Actions) -> None:
    target = (
        user_target(options.prefix, environ, os.geteuid())
        if options.user
        else system_target(options.prefix)
    )
    if not options.user and os.geteuid() != 0 and not options.dry_run:
        raise Problem(
            f"This changes the machine, so it needs root: sudo {_call()}\n"
            "For you alone, without root: scripts/install --user"
        )
    files = units.unit_files(ROOT, target)
    settings = units.settings_files(ROOT, target)
    systemd = units.Systemd(target, actions)
    if options.uninstall:
        uninstall(target, systemd, files, settings, actions, purge=options.purge)
        return
    wanted = model.find_model(options.model, target) if options.model else None
    places = _places(options, environ)
    environ |= environment.pip_environment(places.cache, environ)
    new = release.release_of(ROOT, target, environ)
    release.check(new, target, places, environ)
    with release.locked(target, actions):
        before = os.path.realpath(target.current) if target.current.exists() else None
        release.make(new, places, actions, environ)
        changed = release.switch(new, target, actions)
        actions.say("qwend", f"{new.version} in {new.venv}{'' if changed else ', as before'}")
        changed_units = units.place(files, target, actions)
        changed |= bool(changed_units)
        if units.place(settings, target, actions):
            units.make_user_and_directories(settings, actions)
        if changed_units:
            systemd.reload()
        actions.say("units", _units_text(changed_units, target))
        if wanted is not None:
            changed |= model.set_model(wanted, target, actions)
        try:
            _start(target, systemd, files, places.log, actions, renew=changed)
        except Problem as problem:
            raise Problem(f"{problem}{_way_back(before, new.venv, target)}") from None
        release.remove_others(new, target, actions)


def _start(
    target: Target,
    systemd: units.Systemd,
    files: list[units.Unit],
    log: Path,
    actions: Actions,
    *,
    renew: bool,
) -> None:
    names = [unit.place.name for unit in files if unit.wants_enabling]
    enabled = systemd.enable(names)
    if not systemd.is_running:
        actions.say("service", "not started: no systemd runs here")
        actions.note(_without_systemd(target, systemd))
        return
    how = systemd.start(names, log / "install-start.log", renew=renew)
    at_boot = "at each login" if target.user else "at every boot"
    actions.say("service", f"{how}{f'; from now on it starts {at_boot}' if enabled else ''}")
    qwenctl = target.prefix / "bin" / "qwenctl"
    ask = [str(qwenctl), "--socket", str(target.socket), "ask", "--max-tokens", "24", QUESTION]
    if actions.dry:
        actions.call(*ask)
        return
    answer = _answer(ask, systemd)
    actions.say("answer", f"“{answer}”")
    actions.note(_what_next(target))


def _answer(ask: list[str], systemd: units.Systemd) -> str:
    """The first line of the model's answer. Raises: Problem if there is none."""
    try:
        done = subprocess.run(
            ask,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Problem(f"It runs, but gave no answer in {ANSWER_S} s.\n{systemd.log()}") from None
    if done.returncode:
        raise Problem(f"It runs, but does not answer: {done.stderr.strip()}\n{systemd.log()}")
    lines = done.stdout.strip().splitlines()
    return lines[0][:60] if lines else ""


def _environment() -> dict[str, str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("QWEND_")}
    if os.geteuid() == 0:
        # Some sudos keep the caller's HOME, where root's files are in the way.
        environ["HOME"] = pwd.getpwuid(0).pw_dir
    return environ


def _places(options: argparse.Namespace, environ: Mapping[str, str]) -> Places:
    if options.dry_run:
        named = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/")) / ".cache"
        return Places(ROOT, Path(named) / "qwend")
    return find_places(ROOT, environ)


def _units_text(changed: list[str], target: Target) -> str:
    if not changed:
        return f"in {target.units}, as before"
    return f"in {target.units}: {', '.join(changed)}"


def _way_back(before: str | None, new: Path, target: Target) -> str:
    if before is None or before == str(new):
        return ""
    sudo, user = ("", " --user") if target.user else ("sudo ", "")
    return (
        "\nThe version before is still there. To go back to it:\n"
        f"  {sudo}ln -sfn {Path(before).name} {target.current} && "
        f"{sudo}systemctl{user} restart qwend"
    )


def _without_systemd(target: Target, systemd: units.Systemd) -> str:
    if systemd.is_installed and not target.user:
        later = "The service starts with the next boot of a systemd."
    else:
        later = "Nothing starts it by itself."
    return f"{later} In the foreground: {target.prefix}/bin/qwend serve"


def _what_next(target: Target) -> str:
    lines = [""]
    if target.user:
        name = pwd.getpwuid(os.geteuid()).pw_name
        lines.append(f"To keep it running while you are logged out:  loginctl enable-linger {name}")
        if str(target.bin) not in os.environ.get("PATH", "").split(":"):
            lines.append(f"The commands are in {target.bin}, which is not in your PATH yet.")
    else:
        name = os.environ.get("SUDO_USER") or "NAME"
        lines.append(
            f"To let a user ask it, who then logs in again:  sudo usermod -aG qwend {name}"
        )
    lines.append("To see what could be better here:  qwenctl doctor")
    return "\n".join(lines)


def _how_to_go_on(actions: Actions) -> str:
    if not actions.has_changed:
        return "Nothing has been changed."
    return f"What is done stays. To go on from there, once that is mended: {_call()}"


def _call() -> str:
    return " ".join(["scripts/install", *sys.argv[1:]])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/install")
    parser.add_argument("--prefix", type=Path)
    parser.add_argument("--model")
    for flag in ("--user", "--uninstall", "--purge", "--dry-run"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # An exception, so that every `finally` on the way out cleans up.
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
