"""`qwenctl load`: have the daemon answer with another model, as an administrator."""

from __future__ import annotations

import click

from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.switch import load, say_stopped
from qwend.cli.switch_screen import SwitchScreen


@click.command("load")
@click.argument("model", metavar="NAME|PATH")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@socket_option
def command(model: str, quiet: bool, as_json: bool, socket_path: str | None) -> int:
    """Have the daemon answer with another model, until its next start.

    No answer is cut short: what is under way ends with the model before. `qwenctl use` does the
    same and makes the model the default.
    """
    screen = SwitchScreen(model, quiet=quiet, as_json=as_json)
    with connect(socket_path, patient=True) as client:
        loaded = load(client, model, screen)
        if loaded is None:
            say_stopped(client, screen)
            return Exit.INTERRUPTED
    screen.tell("loaded", **loaded.fields())
    screen.say(loaded.sentence())
    return Exit.DONE
