"""`qwenctl reload`: have the daemon read its configuration again, as an administrator."""

from __future__ import annotations

import click

from qwend.cli.connection import connect, socket_option


@click.command("reload")
@socket_option
def command(socket_path: str | None) -> None:
    """Read the configuration again, and take requests again after a drain."""
    with connect(socket_path) as client:
        client.reload()
        changed = client.status().get("needs_restart")
        click.echo("the configuration is read again, and requests are taken")
        if isinstance(changed, list) and changed:
            click.echo(f"these need a restart: {', '.join(map(str, changed))}")
