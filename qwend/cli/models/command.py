"""`qwenctl models`: the table of its subcommands, each imported when it is called."""

from __future__ import annotations

import click

from qwend.cli.group import LazyGroup

COMMANDS = {
    "list": ("qwend.cli.models.listing", "List the models of this machine."),
    "available": ("qwend.cli.models.available", "List what `pull` knows, and what fits here."),
    "show": ("qwend.cli.models.show", "Show what is known of one model."),
    "default": ("qwend.cli.models.default", "Show or choose the model that the daemon loads."),
    "import": ("qwend.cli.models.import_file", "Copy a GGUF file into the store."),
    "verify": ("qwend.cli.models.verify", "Read models again and compare with their SHA-256."),
    "rm": ("qwend.cli.models.remove", "Remove a model from the store."),
    "gc": ("qwend.cli.models.sweep", "Remove files that no model needs any more."),
}


@click.group("models", cls=LazyGroup, lazy=COMMANDS)
def command() -> None:
    """Look after the models of this machine."""
