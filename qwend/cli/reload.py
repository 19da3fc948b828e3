"""`qwenctl reload`: have the daemon read its configuration again, as an administrator."""

from __future__ import annotations

import click

from qwend.cli.connection import connect, socket_option
from qwend.cli.status import not_in_force


@click.command("reload")
@socket_option
def command(socket_path: str | None) -> None:
    """Read the configuration again, and take requests again after a drain."""
    with connect(socket_path) as client:
        client.reload()
        click.echo("the configuration is read again, and requests are taken")
        for sentence in not_in_force(client.status()):
            click.echo(sentence)
