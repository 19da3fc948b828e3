"""`qwenctl models default`: which model the daemon loads, that is, `name` under [model]."""

from __future__ import annotations

import os

import click

from qwend.cli.models import place
from qwend.config import load_config
from qwend.config.edit import set_text
from qwend.errors import ConfigError
from qwend.models.store import resolve_model


@click.command("default")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Show the model that the daemon loads at its start, or make it NAME."""
    if name is None:
        click.echo(place.configured_name())
        return
    click.echo(choose(name))


def choose(name: str) -> str:
    """Write it into the configuration; return what there is to say about that.

    Raises: ModelError if there is no such model; ConfigError if the file cannot be changed so.
    """
    model = resolve_model(name, place.paths().models)
    written = str(model.path) if "/" in name or name.endswith(".gguf") else model.name
    if "QWEND_MODEL_NAME" in os.environ:
        raise ConfigError("the variable QWEND_MODEL_NAME names the model here; take it away first")
    file = place.paths().config
    if load_config(None, os.environ).config.model.name == written:
        return f"{written} is the default already."
    set_text(file, "model", "name", written)
    return f'{file} says now: name = "{written}" under [model]. A start of the daemon loads it.'
