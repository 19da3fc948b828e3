"""`qwenctl drain`: have the daemon take no new requests, as an administrator."""

from __future__ import annotations

import click

from qwend.cli.connection import connect, socket_option


@click.command("drain")
@socket_option
def command(socket_path: str | None) -> None:
    """Finish what is open and take no new requests, until `qwenctl reload`."""
    with connect(socket_path) as client:
        client.drain()
        requests = client.status().get("requests")
        left = requests.get("open", 0) if isinstance(requests, dict) else 0
        click.echo(f"new requests are refused; {left} open ones go on")
