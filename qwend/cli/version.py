"""`qwenctl version`: this program's version and the daemon's."""

from __future__ import annotations

import click

from qwend import __version__
from qwend.cli.connection import connect, socket_option


@click.command("version")
@socket_option
def command(socket_path: str | None) -> None:
    """Show the versions of qwenctl and of the daemon."""
    click.echo(f"qwenctl {__version__}")
    with connect(socket_path) as client:
        welcome = client.welcome
        click.echo(f"daemon {welcome.server}, protocol {welcome.protocol}")
