"""`qwenctl use`: a model that answers from now on, and after each start too."""

from __future__ import annotations

import os
from pathlib import Path

import click

from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.models import place
from qwend.cli.models.default import checked, choose
from qwend.cli.switch import Loaded, as_sent, load, say_stopped
from qwend.cli.switch_screen import SwitchScreen
from qwend.client import DaemonUnreachable
from qwend.errors import ConfigError
from qwend.models.store import is_path


@click.command("use")
@click.argument("model", metavar="NAME|PATH")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@socket_option
def command(model: str, quiet: bool, as_json: bool, socket_path: str | None) -> int:
    """Have the daemon answer with another model, now and after each start.

    That is `qwenctl load` and `qwenctl models default` in one. Without a daemon, its next start
    loads the model.
    """
    return use(model, SwitchScreen(model, quiet=quiet, as_json=as_json), socket_path)


def use(model: str, screen: SwitchScreen, socket_path: str | None) -> int:
    """Return the exit code. Raises: QwendError."""
    euid = place.euid_behind(socket_path)
    try:
        client = connect(socket_path, patient=True)
    except DaemonUnreachable as unreachable:
        written = checked(model, euid)
        file = choose(written, euid)
        screen.tell("chosen", model=written)
        screen.say(f"No daemon answers at {unreachable.path}; its next start loads {written}.")
        screen.say(_where(file, written))
        return Exit.DONE
    with client:
        loaded = load(client, model, screen, "use")
        if loaded is None:
            say_stopped(client, screen)
            return Exit.INTERRUPTED
    # Chosen once it is loaded: what cannot be must not be what the next start tries.
    _make_default(as_sent(model) if is_path(model) else loaded.model, loaded, screen, euid)
    return Exit.DONE


def _make_default(written: str, loaded: Loaded, screen: SwitchScreen, euid: int) -> None:
    try:
        file = choose(written, euid)
    except ConfigError as error:
        screen.tell("loaded", **loaded.fields(), default=False)
        screen.say(loaded.sentence())
        as_root = f"; or: sudo qwenctl use {written}" if euid == 0 != os.geteuid() else ""
        raise ConfigError(f"but only until the daemon's next start: {error}{as_root}") from error
    screen.tell("loaded", **loaded.fields(), default=True)
    screen.say(loaded.sentence())
    screen.say(_where(file, written))


def _where(file: Path | None, written: str) -> str:
    if file is None:
        return "It was the default already."
    return f'From now on {file} says: name = "{written}" under [model].'
