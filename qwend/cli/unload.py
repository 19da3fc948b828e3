"""`qwenctl unload`: have the daemon let go of its model, as an administrator."""

from __future__ import annotations

import click

from qwend.cli.amounts import part
from qwend.cli.connection import connect, socket_option
from qwend.cli.exits import Exit
from qwend.cli.switch import say_stopped, unload
from qwend.cli.switch_screen import SwitchScreen


@click.command("unload")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="Print progress and result as JSON lines.")
@socket_option
def command(quiet: bool, as_json: bool, socket_path: str | None) -> int:
    """Have the daemon let go of its model and the memory of it, until somebody asks something.

    It waits until the answers that are under way have ended.
    """
    screen = SwitchScreen("", quiet=quiet, as_json=as_json)
    with connect(socket_path, patient=True) as client:
        if not unload(client, screen):
            say_stopped(client, screen)
            return Exit.INTERRUPTED
        model = str(part(client.status(), "model").get("name"))
    screen.tell("unloaded", model=model)
    screen.say(f"{model} is unloaded; the next request loads it again, and waits for that.")
    return Exit.DONE
