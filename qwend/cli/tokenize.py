"""`qwenctl tokenize`: a text as the model sees it."""

from __future__ import annotations

import json

import click

from qwend.cli.connection import connect, socket_option
from qwend.cli.text_input import read_text


@click.command("tokenize")
@click.argument("text", nargs=-1)
@click.option("--special", is_flag=True, help="Read control tokens (<|im_end|>) as such.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@socket_option
def command(text: tuple[str, ...], special: bool, as_json: bool, socket_path: str | None) -> None:
    """Show the token ids of TEXT, or of standard input."""
    given = read_text(text, "what to tokenize", exact=True)
    with connect(socket_path) as client:
        tokens = client.tokenize(given, special=special)
    if as_json:
        click.echo(json.dumps({"count": len(tokens), "tokens": tokens}))
    else:
        click.echo(" ".join(map(str, tokens)))
