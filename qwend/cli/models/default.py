"""`qwenctl models default`: which model the daemon loads, that is, `name` under [model]."""

from __future__ import annotations

import os
from pathlib import Path

import click

from qwend.cli.models import place
from qwend.config import load_config
from qwend.config.edit import set_text
from qwend.errors import ConfigError
from qwend.models.store import is_path, open_model, resolve_model
from qwend.paths import paths_for


@click.command("default")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """Show the model that the daemon loads at its start, or make it NAME."""
    if name is None:
        click.echo(place.configured_name())
        return
    euid = os.geteuid()
    written = checked(name, euid)
    file = choose(written, euid)
    if file is None:
        click.echo(f"{written} is the default already.")
        return
    click.echo(
        f'{file} says now: name = "{written}" under [model]. The daemon loads it at its next '
        f"start; to have it answer now: qwenctl load {written}"
    )


def checked(name: str, euid: int) -> str:
    """What to write for this model, whose header has passed the check that the daemon makes.

    euid: whose daemon is to find it. Raises: ModelError, ConfigError.
    """
    # 30 ms that `use` does not need while a daemon runs.
    from qwend.models.header_check import check_gguf

    any_architecture = load_config(None, os.environ, euid=euid).config.model.allow_any_architecture
    model = resolve_model(name, paths_for(os.environ, euid).models)
    fd = open_model(model.path)
    try:
        check_gguf(
            fd,
            os.fstat(fd).st_size,
            path=str(model.path),
            allow_any_architecture=any_architecture,
        )
    finally:
        os.close(fd)
    return str(model.path) if is_path(name) else model.name


def choose(written: str, euid: int) -> Path | None:
    """Make it `name` under [model]; return the file that says so now, None if it did already.

    euid: whose daemon reads it. Raises: ConfigError if the file cannot be changed so.
    """
    if "QWEND_MODEL_NAME" in os.environ:
        raise ConfigError("the variable QWEND_MODEL_NAME names the model here; take it away first")
    if load_config(None, os.environ, euid=euid).config.model.name == written:
        return None
    named = os.environ.get("QWEND_CONFIG")
    file = Path(named) if named else paths_for(os.environ, euid).config
    set_text(file, "model", "name", written)
    return file
