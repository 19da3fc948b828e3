"""`qwenctl ping`: one message there and back."""

from __future__ import annotations

import click

from qwend.cli.connection import connect, socket_option


@click.command("ping")
@socket_option
def command(socket_path: str | None) -> None:
    """See whether the daemon answers, and how fast."""
    with connect(socket_path) as client:
        elapsed_s = client.ping()
        click.echo(f"{client.welcome.server} answered in {elapsed_s * 1000:.2f} ms")
