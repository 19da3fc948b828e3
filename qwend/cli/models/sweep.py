"""`qwenctl models gc`: files of the store that no model needs any more."""

from __future__ import annotations

import click

from qwend.cli.amounts import counted
from qwend.cli.models import place
from qwend.cli.models.shown import mebi


@click.command("gc")
@click.option("--parts", is_flag=True, help="Unfinished pulls too, also those of today.")
def command(parts: bool) -> None:
    """Remove files that no model needs, and pulls that nobody went on with for 30 days."""
    swept = place.store().sweep(all_parts=parts)
    click.echo(
        f"{counted(swept.files, 'files')} removed; {mebi(swept.freed_bytes)} are free again."
    )
